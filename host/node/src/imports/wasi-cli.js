// `wasi:cli` 0.2, as far as a service may use it: arguments, variables, and what it prints.
import { Trap } from '../memory.js';
import { Input, Output } from './wasi-io.js';

/** @typedef {import('../link.js').HostFunction} HostFunction */
/** @typedef {import('../instance.js').Instance} Instance */
/** @typedef {import('../memory.js').GuestMemory} GuestMemory */

/**
 * Writes a list of texts.
 *
 * @param {GuestMemory} memory
 * @param {number} at
 * @param {string[]} texts
 * @param {number} each how many texts an element has
 */
function putTexts(memory, at, texts, each) {
  const list = memory.allocate(8 * texts.length, 4);
  texts.forEach((text, index) => memory.putText(list + 8 * index, text));
  memory.putList(at, list, texts.length / each);
}

/** @type {Record<string, HostFunction>} */
export const environment = {
  'get-arguments': {
    type: '() -> list<string>',
    make: (/** @type {Instance} */ instance, memory) => (/** @type {number} */ at) =>
      putTexts(memory, at >>> 0, ['service', ...instance.settings.args], 1),
  },
  'get-environment': {
    type: '() -> list<tuple<string, string>>',
    make: (/** @type {Instance} */ instance, memory) => (/** @type {number} */ at) =>
      putTexts(memory, at >>> 0, Object.entries(instance.settings.env).flat(), 2),
  },
  'initial-cwd': {
    type: '() -> option<string>',
    make: (_, memory) => (/** @type {number} */ at) => memory.view.setUint8(at >>> 0, 0),
  },
};

/** @type {Record<string, HostFunction>} */
export const stdin = {
  'get-stdin': {
    type: '() -> own<input-stream>',
    make: (/** @type {Instance} */ instance) => () => instance.resources.add(new Input()),
  },
};

/** @type {Record<string, HostFunction>} */
export const stdout = {
  'get-stdout': {
    type: '() -> own<output-stream>',
    make: (/** @type {Instance} */ instance) => () => instance.resources.add(new Output(instance.stdout)),
  },
};

/** @type {Record<string, HostFunction>} */
export const stderr = {
  'get-stderr': {
    type: '() -> own<output-stream>',
    make: (/** @type {Instance} */ instance) => () => instance.resources.add(new Output(instance.stderr)),
  },
};

/** Ending the process ends the instance. @type {Record<string, HostFunction>} */
export const exit = {
  exit: { type: '(status: result<_, _>)', make: () => exits },
  'exit-with-code': { type: '(status-code: u8)', make: () => exits },
};

function exits() {
  throw new Trap('the service has called `exit`');
}

/** Returns an interface whose function says that there is no terminal. @param {'stdin' | 'stdout' | 'stderr'} name */
export const noTerminal = (name) => ({
  [`get-terminal-${name}`]: {
    type: `() -> option<own<terminal-${name === 'stdin' ? 'input' : 'output'}>>`,
    make: (/** @type {unknown} */ _, /** @type {GuestMemory} */ memory) => (/** @type {number} */ at) =>
      memory.view.setUint8(at >>> 0, 0),
  },
});
