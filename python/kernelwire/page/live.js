// Asks once a second what goes on, and shows it. All that is shown is set as text.
"use strict";

const PERIOD = 1000; // milliseconds
const POINTS = 60; // of a chart
const COLUMNS = [
  "State", "Messages/s", "Bytes/s", "Waiting", "Merged", "Dropped", "Driver",
];
const SVG = "http://www.w3.org/2000/svg";

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const find = (id) => document.getElementById(id);

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function bytes(number) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  for (; number >= 1000 && unit < units.length - 1; unit += 1) number /= 1000;
  return `${unit ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}

// What a counter gains in a second, and how that was during the last minute.
class Rate {
  constructor(cell) {
    this.values = [];
    this.number = cell.appendChild(make("span"));
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 20`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true"); // the number beside it says it
    this.line = svg.appendChild(document.createElementNS(SVG, "polyline"));
    cell.append(svg);
  }

  show(count, time, unit) {
    const before = this.last;
    this.last = { count, time };
    if (before === undefined || time <= before.time) return;
    // A counter that is less than before is another one, from its start.
    const gain = count < before.count ? count : count - before.count;
    const rate = gain / (time - before.time);
    this.values = [...this.values, rate].slice(-POINTS);
    write(this.number, unit(rate));
    const most = Math.max(...this.values, 1);
    const left = POINTS - this.values.length;
    const points = this.values.map((value, x) => `${left + x},${(20 - (20 * value) / most).toFixed(1)}`);
    this.line.setAttribute("points", points.join(" "));
  }
}

class Row {
  constructor(kind, scope) {
    this.element = make("tr", { role: "row", class: kind });
    this.title = this.element.appendChild(make("th", { role: "rowheader", scope }));
    this.name = this.title.appendChild(make("span"));
    this.title.append(" ");
    this.id = this.title.appendChild(make("span", { class: "id" }));
    this.cells = {};
    for (const column of COLUMNS) {
      const cell = make("td", { role: "cell", "data-label": column });
      this.cells[column] = this.element.appendChild(cell);
    }
    this.messages = new Rate(this.cells["Messages/s"]);
    this.bytes = new Rate(this.cells["Bytes/s"]);
    this.waiting = this.cells.Waiting.appendChild(make("span"));
    this.why = this.cells.Waiting.appendChild(make("span", { class: "more" }));
  }

  show(time, { name, id, state, messages, bytes: size, waiting, why, merged, dropped, driver }) {
    write(this.name, name);
    write(this.id, id.slice(0, 8));
    this.id.setAttribute("title", id);
    write(this.cells.State, state);
    this.messages.show(messages, time, (rate) => (rate < 10 ? rate.toFixed(1) : short.format(rate)));
    this.bytes.show(size, time, bytes);
    write(this.waiting, waiting);
    write(this.why, why);
    write(this.cells.Merged, merged === null ? "–" : whole.format(merged));
    write(this.cells.Dropped, dropped === null ? "–" : whole.format(dropped));
    this.cells.Dropped.classList.toggle("bad", dropped > 0);
    write(this.cells.Driver, driver);
    const lost = dropped - (this.dropped ?? dropped);
    this.dropped = dropped;
    return lost > 0 ? { lost, id } : null;
  }
}

// A kernel and its tabs, as a group of rows.
class Kernel {
  constructor() {
    this.element = make("tbody", { role: "rowgroup" });
    this.row = new Row("kernel", "rowgroup");
    this.element.append(this.row.element);
    this.tabs = new Map();
  }

  show(time, id, kernel, tabs) {
    const has = kernel.entries !== undefined;
    this.row.show(time, {
      name: kernel.name || "kernel",
      id,
      state: kernel.state ?? "",
      messages: kernel.received ?? 0,
      bytes: kernel.received_bytes ?? 0,
      waiting: has ? `${whole.format(kernel.entries)} kept` : "–",
      why: has ? bytes(kernel.bytes) : "",
      merged: null,
      dropped: null,
      driver: kernel.driver ?? "–",
    });
    return update(this.tabs, this.element, tabs, () => new Row("tab", "row"), (row, tab) =>
      row.show(time, tab));
  }
}

// Has there be an element for each of the items, by their keys, in their order.
function update(shown, parent, items, create, show) {
  const news = [];
  for (const [key, item] of items) {
    if (!shown.has(key)) {
      shown.set(key, create());
      parent.append(shown.get(key).element);
    }
    news.push(show(shown.get(key), item));
  }
  for (const [key, one] of shown) {
    if (!items.has(key)) {
      one.element.remove();
      shown.delete(key);
    }
  }
  return news.flat().filter(Boolean);
}

function tabOf(key, tab, state) {
  const waits = tab.waits_for !== "nothing";
  return {
    name: "tab",
    id: key.split(":").slice(1).join(":") || key,
    state,
    ...tab.totals,
    waiting: `${whole.format(tab.messages)} messages`,
    why: waits ? `${bytes(tab.bytes)}, ${tab.seconds.toFixed(1)} s; for ${tab.waits_for}` : "",
    driver: tab.driver ?? "–",
  };
}

function relayOf(relay) {
  return {
    name: "tab",
    id: relay.session,
    state: `link ${relay.link}`,
    messages: relay.messages,
    bytes: relay.bytes,
    waiting: `${bytes(relay.pending_bytes)} for it`,
    why: relay.kept_requests ? `${relay.kept_requests} requests for the gateway` : "",
    merged: null,
    dropped: null,
    driver: "gateway",
  };
}

function tabsOf(kernel, relays) {
  const tabs = new Map();
  for (const [key, tab] of Object.entries(kernel.clients ?? {})) tabs.set(key, tabOf(key, tab, "connected"));
  for (const [key, tab] of Object.entries(kernel.away ?? {})) tabs.set(key, tabOf(key, tab, "away"));
  relays.forEach((relay, index) => tabs.set(`${relay.session}#${index}`, relayOf(relay)));
  return tabs;
}

const kernels = new Map();

// Is read aloud: only what matters, and not what is said already.
function tell(text, isBad = false) {
  write(find("news"), text);
  find("news").classList.toggle("bad", isBad);
}

function show(stats) {
  const engine = stats.turns === null ? "" : `, ${whole.format(stats.turns)} turns`;
  const driver = stats.driver ? `driver: ${stats.driver}, because ${stats.reason}${engine}` : stats.reason;
  write(find("driver"), `${stats.version}; ${driver}`);
  const ids = new Set([...Object.keys(stats.kernels), ...Object.keys(stats.relays)]);
  const items = new Map([...ids].map((id) => [id, [stats.kernels[id] ?? {}, stats.relays[id] ?? []]]));
  find("empty").hidden = ids.size > 0;
  find("kernels").hidden = ids.size === 0;
  const entries = new Map([...items].map(([id, [kernel, relays]]) => [id, [id, kernel, tabsOf(kernel, relays)]]));
  const news = update(kernels, find("kernels"), entries, () => new Kernel(), (one, args) =>
    one.show(stats.time, ...args));
  if (news.length > 0) {
    const lost = news.reduce((sum, one) => sum + one.lost, 0);
    tell(`${whole.format(lost)} messages were dropped for tab ${news[0].id.slice(0, 8)}.`, true);
  }
}

let isPaused = false;
let isAway = false;

async function ask() {
  const answer = await fetch("api/stats?no_track_activity=1", {
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout(10 * PERIOD),
  });
  if (!answer.ok) throw new Error(`it says ${answer.status}`);
  show(await answer.json());
}

async function goOn() {
  if (!isPaused && !document.hidden) {
    try {
      await ask();
      if (isAway) tell("");
      isAway = false;
    } catch (error) {
      if (!isAway) tell(`The server does not answer: ${error.message}. What is shown is old.`, true);
      isAway = true;
    }
  }
  setTimeout(goOn, PERIOD);
}

find("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  find("pause").setAttribute("aria-pressed", String(isPaused));
});

goOn();
