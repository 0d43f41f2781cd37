// What JupyterLab's own package does with a kernel, in Node: URL, token, kernel, protocol, code.
//
// Prints JSON: the protocol in use, what the code printed, the numbers of the displays' metadata, and
// what the comm "echo" sends back, where the code has made it.
"use strict";

const { KernelManager, ServerConnection } = require("@jupyterlab/services");
const WebSocket = require("ws");

class OldWebSocket extends WebSocket {
  constructor(url) {
    super(url); // offers no protocol, so that the default one is spoken
  }
}

async function main([baseUrl, token, model, protocol, code]) {
  const serverSettings = ServerConnection.makeSettings({
    baseUrl,
    wsUrl: baseUrl.replace("http", "ws"),
    token,
    appendToken: true,
    WebSocket: protocol === "legacy" ? OldWebSocket : WebSocket,
  });
  const manager = new KernelManager({ serverSettings });
  const kernel = manager.connectTo({ model: JSON.parse(model) });
  await kernel.info;
  const said = { protocol: kernel._ws.protocol, text: "", numbers: [], echo: null };
  const future = kernel.requestExecute({ code });
  future.onIOPub = (message) => {
    if (message.header.msg_type === "stream") said.text += message.content.text;
    if ("number" in message.metadata) said.numbers.push(message.metadata.number);
  };
  await future.done;
  if (code.includes('"echo"')) {
    const comm = kernel.createComm("echo");
    const answered = new Promise((resolve) => {
      comm.onMsg = (message) => {
        if (message.content.data.n === 2) resolve(message);
      };
    });
    await comm.open({ n: 1 }).done;
    const sent = Uint8Array.from({ length: 70000 }, (_, at) => at % 251);
    comm.send({ n: 2 }, {}, [sent.buffer, new ArrayBuffer(0)]);
    const { buffers } = await answered;
    const got = buffers.map((buffer) => Buffer.from(buffer.buffer ?? buffer));
    const expected = Buffer.from(sent).reverse();
    said.echo = [got.length, got[0].equals(expected), got[1].length];
  }
  console.log(JSON.stringify(said));
  process.exit(0);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
