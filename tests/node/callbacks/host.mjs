// Serves a component in callback style on Node 20 or newer, with one instance. Usage:
// node callbacks/host.mjs COMPONENT --listen ADDRESS [--allow-connect ADDRESS] -- ARGUMENTS
import { WASIShim } from '@bytecodealliance/preview2-shim/instantiation';

import { compile } from '../load.mjs';
import { listen, parse } from '../network.mjs';
import { Instance } from './sockets.mjs';

const [component, ...rest] = process.argv.slice(2);
const split = rest.indexOf('--');
const flags = rest.slice(0, split);
const given = (flag) => flags.filter((_, at) => flags[at - 1] === flag);

const wasi = new WASIShim({
  sandbox: { args: ['service', ...rest.slice(split + 1)], env: {}, preopens: {}, enableNetwork: false },
}).getImportObject();
const instantiate = await compile(component);

const granted = given('--allow-connect').map((address) => parse(address, 'connect to'));
const mayConnect = (host, port) =>
  granted.some(([to, at]) => to === host && (at === '*' || Number(at) === port));

let instance = null;

/** A trap resets the connections of the instance; the next connection gets a new one. */
function trapped(error) {
  instance = null;
  console.error(`the service failed: ${error.stack}`);
}

await listen(given('--listen'), {}, (socket) => {
  try {
    instance ??= new Instance((tcp) => instantiate({ ...wasi, ...tcp }), { trapped, mayConnect });
  } catch (error) {
    socket.resetAndDestroy();
    return trapped(error);
  }
  instance.accept(socket);
});
