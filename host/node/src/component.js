// From a file to a component that is ready to be instantiated.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setFlagsFromString } from 'node:v8';

import { parse } from './binary/component.js';
import { initialMemory, limited } from './binary/module.js';
import { ComponentError } from './binary/reader.js';
import { compatible, isKnown, provided } from './imports/index.js';
import { ERROR_CODE } from './imports/types.js';
import { instantiate } from './link.js';

/** @typedef {import('./binary/component.js').Component} Parsed */
/** @typedef {import('./binary/component.js').Definition} Definition */
/** @typedef {import('./link.js').Lifted} Lifted */
/** @typedef {import('./link.js').Named} Named */

const MEBIBYTE = 1 << 20;

/** The events of a service, with their types. */
const EVENTS = {
  connection: '(socket: u32)',
  data: '(socket: u32, data: list<u8>)',
  end: '(socket: u32)',
  drain: '(socket: u32)',
  timeout: '(socket: u32)',
  error: `(socket: u32, code: ${ERROR_CODE})`,
  close: '(socket: u32, had-error: bool)',
};

const TIMER_EVENTS = { fired: '(timer: u32)' };

/** @typedef {Record<keyof typeof EVENTS, Lifted> & { fired: Lifted | null }} Exports */

// Sums in constant expressions, which compilers emit for code that can be moved: a part of
// WebAssembly since 2023, and behind a flag in Node 20 alone.
if (/^11\.3\./.test(process.versions.v8 ?? '')) setFlagsFromString('--experimental-wasm-extended-const');

/** What is compiled already, by the hash of the file and the limit on memory. @type {Map<string, Promise<Component>>} */
const compiled = new Map();

/**
 * Returns a component, compiled. The second time it comes from memory.
 *
 * @param {string | URL | Uint8Array} source a file, or its contents
 * @param {number} maxMemory the most bytes of memory of an instance
 * @returns {Promise<Component>}
 */
export async function load(source, maxMemory) {
  const bytes = source instanceof Uint8Array ? source : await read(source);
  const key = `${createHash('sha256').update(bytes).digest('hex')} ${maxMemory}`;
  const name = source instanceof Uint8Array ? 'the component' : String(source);
  let component = compiled.get(key);
  if (!component) {
    component = Component.compile(bytes, maxMemory);
    compiled.set(key, component);
    component.catch(() => compiled.delete(key));
  }
  return component.catch((error) => {
    throw new ComponentError(`${name}: ${error.message}`);
  });
}

/** @param {string | URL} path */
async function read(path) {
  try {
    return await readFile(path);
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    throw new ComponentError(`cannot read the component: ${message}`);
  }
}

/** A service in callback style whose code is compiled, and whose imports this host has. */
export class Component {
  #parsed;
  #imports;
  #modules;
  /** The isolation that the component declares. @type {'shared' | 'connection' | null} */
  isolation;

  /**
   * @param {Parsed} parsed
   * @param {Named} given what it imports
   * @param {Map<Definition, WebAssembly.Module>} modules
   */
  constructor(parsed, given, modules) {
    this.#parsed = parsed;
    this.#imports = given;
    this.#modules = modules;
    this.isolation = declared(parsed);
  }

  /** @param {Uint8Array} bytes @param {number} maxMemory */
  static async compile(bytes, maxMemory) {
    const parsed = parse(bytes);
    judge(parsed);
    const given = imports(parsed);
    return new Component(parsed, given, await compileModules(parsed, maxMemory));
  }

  /**
   * Makes an instance, and returns the events that it exports.
   *
   * @param {import('./instance.js').Instance} instance what the imports belong to
   * @returns {Exports}
   */
  instantiate(instance) {
    const exports = instantiate(this.#parsed, this.#imports, this.#modules, instance);
    const named = (/** @type {string} */ wanted) =>
      [...exports].find(([name]) => compatible(name) === wanted)?.[1].value;
    const events = taken(named('halfopen:tcp/events@0.1'), EVENTS, 'halfopen:tcp/events');
    const timers = named('halfopen:tcp/timer-events@0.1');
    const { fired } = timers ? taken(timers, TIMER_EVENTS, 'halfopen:tcp/timer-events') : { fired: null };
    return { ...events, fired };
  }
}

/** Throws, in words, if the component is no service in callback style. @param {Parsed} parsed */
function judge({ exports, unsupported }) {
  const has = (/** @type {string} */ wanted) => exports.some(({ name }) => compatible(name) === wanted);
  if (has('halfopen:tcp/events@0.1')) {
    if (unsupported) throw new ComponentError(unsupported);
    return;
  }
  const instead = has('halfopen:tcp/handler@0.1')
    ? 'a service in await style: the native command `halfopen serve` runs it'
    : exports.some(({ name }) => name.startsWith('wasi:cli/run@'))
      ? 'a program: the native command `halfopen run` runs it'
      : 'something else';
  throw new ComponentError(
    `it does not export \`halfopen:tcp/events\`, as services in callback style do; it is ${instead}`,
  );
}

/** @param {Parsed} parsed */
function declared({ exports }) {
  const has = (/** @type {string} */ isolation) =>
    exports.some(({ name }) => compatible(name) === `halfopen:tcp/isolation-${isolation}@0.1`);
  if (has('shared') && has('connection')) {
    throw new ComponentError('it declares both isolations, `shared` and `connection`: let it declare one');
  }
  return has('shared') ? 'shared' : has('connection') ? 'connection' : null;
}

/**
 * Returns what a component imports, if this host has all of it.
 *
 * @param {Parsed} parsed
 * @returns {Named}
 */
function imports({ definitions }) {
  /** @type {Named} */
  const given = new Map();
  for (const definition of definitions) {
    if (definition.does !== 'import') continue;
    const { name, described } = definition;
    if (described.sort !== 'instance') {
      throw new ComponentError(`it imports the ${described.sort} \`${name}\`, and this host has none`);
    }
    const exports = [...(described.type.exports ?? [])].filter(([, { sort }]) => sort !== 'type');
    if (exports.length > 0 && !isKnown(name)) {
      throw new ComponentError(`it imports \`${name}\`, which this host does not have`);
    }
    const functions = exports.map(([func, { sort, type }]) => {
      const ours = provided(name, func);
      if (!ours || sort !== 'func') {
        throw new ComponentError(`it imports \`${func}\` of \`${name}\`, which this host does not have`);
      }
      if (ours.type !== null && ours.type !== type.text) {
        throw new ComponentError(
          `it imports \`${func}\` of \`${name}\` with another type: ${type.text} instead of ${ours.type}`,
        );
      }
      return /** @type {const} */ ([func, { sort: 'func', value: ours }]);
    });
    given.set(name, { sort: 'instance', value: new Map(functions) });
  }
  return given;
}

/**
 * Returns the functions of an instance that the component exports.
 *
 * @template {string} Name
 * @param {Named | undefined} exported
 * @param {Record<Name, string>} types
 * @param {string} what
 * @returns {Record<Name, Lifted>}
 */
function taken(exported, types, what) {
  const functions = /** @type {[Name, string][]} */ (Object.entries(types)).map(([name, type]) => {
    const found = exported?.get(name)?.value;
    if (found?.type !== type) {
      throw new ComponentError(`it exports \`${name}\` of \`${what}\` with another type, or not at all`);
    }
    return [name, found];
  });
  return Object.fromEntries(functions);
}

/**
 * Compiles the core modules of a component.
 *
 * @param {Parsed} parsed
 * @param {number} maxMemory divided among their memories in the proportion in which they begin
 */
async function compileModules(parsed, maxMemory) {
  const modules = [...coreModules(parsed)];
  const initial = modules.reduce((sum, { bytes }) => sum + initialMemory(bytes), 0);
  if (initial > maxMemory) {
    const [begins, may] = [Math.ceil(initial / MEBIBYTE), Math.floor(maxMemory / MEBIBYTE)];
    throw new ComponentError(
      `it begins with ${begins} MiB of memory, and may have ${may} MiB: raise the limit on memory`,
    );
  }
  const share = maxMemory / Math.max(initial, 65_536);
  const ready = modules.map(async (definition) => {
    const { bytes } = definition;
    // The bytes are needed no longer.
    definition.bytes = new Uint8Array();
    const module = await WebAssembly.compile(limited(bytes, share));
    return /** @type {const} */ ([definition, module]);
  });
  return new Map(await Promise.all(ready));
}

/** @param {Parsed} parsed @returns {Generator<Definition & { does: 'module' }>} */
function* coreModules({ definitions }) {
  for (const definition of definitions) {
    if (definition.does === 'module') yield definition;
    if (definition.does === 'component') yield* coreModules(definition.component);
  }
}
