"""Render the conda recipe for the platforms that wheels are built for.

Usage: ``python .ci/render_recipe.py``, with ``py-rattler-build``. It fails where the recipe is
wrong, and where it makes more than one package for a platform.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rattler_build import PlatformConfig, RenderConfig, Stage0Recipe, VariantConfig

RECIPE = Path(__file__).parents[1] / "recipe" / "recipe.yaml"
PLATFORMS = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64")
C_LIBRARIES = {"linux": "sysroot", "osx": "macosx_deployment_target", "win": "vs"}
"""What conda-forge's pinning names so, by which a package says what it was linked with."""


def main() -> int:
    """Print what each platform's package would need."""
    recipe = Stage0Recipe.from_file(RECIPE)
    for platform in PLATFORMS:
        config = RenderConfig(PlatformConfig(target_platform=platform))
        c_library = C_LIBRARIES[platform.partition("-")[0]]
        variants = VariantConfig.from_yaml(f"c_stdlib: [{c_library}]")
        (variant,) = recipe.render(variants, config)
        rendered = variant.recipe.to_dict()
        print(f"{platform}: {rendered['package']}")
        for kind, packages in rendered["requirements"].items():
            print(f"  {kind}: {', '.join(packages)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
