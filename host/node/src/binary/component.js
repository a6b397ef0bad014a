// Reads the binary format of the component model:
// https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md
import { ComponentError, Reader } from './reader.js';
import { described, definition, externName, Scope, UNKNOWN } from './types.js';

/** @typedef {import('./types.js').Type} Type */
/** @typedef {import('./types.js').Described} Described */

/**
 * A component: what it imports, and what has to be done, in this order, to instantiate it.
 *
 * @typedef {object} Component
 * @property {Definition[]} definitions
 * @property {Export[]} exports
 * @property {string | null} unsupported why this host cannot run it, if that shows here already
 */

/**
 * A sort and a number of its index space.
 *
 * @typedef {{ sort: Sort, index: number }} Item
 * @typedef {'core func' | 'core table' | 'core memory' | 'core global' | 'core type' |
 *   'core module' | 'core instance' | 'func' | 'value' | 'type' | 'component' | 'instance'} Sort
 * @typedef {Item & { name: string }} Export
 */

/**
 * The options of a function that is lifted or lowered, by their numbers.
 *
 * @typedef {{ memory?: number, realloc?: number, postReturn?: number }} Options
 */

/**
 * Something that enters an index space. What does not matter at run time, such as a type,
 * is not here.
 *
 * @typedef {(
 *   | { does: 'import', name: string, described: Described }
 *   | { does: 'module', bytes: Uint8Array }
 *   | { does: 'component', component: Component }
 *   | { does: 'instantiate module', module: number, with: { name: string, instance: number }[] }
 *   | { does: 'bundle core', exports: Export[] }
 *   | { does: 'instantiate', component: number, with: Export[] }
 *   | { does: 'bundle', exports: Export[] }
 *   | { does: 'alias', sort: Sort, instance: number, name: string }
 *   | { does: 'alias core', sort: Sort, instance: number, name: string }
 *   | { does: 'alias outer', sort: Sort, count: number, index: number }
 *   | { does: 'lift', core: number, options: Options, type: Type }
 *   | { does: 'lower', func: number, options: Options }
 *   | { does: 'drop resource' }
 *   | { does: 'export', item: Item }
 * )} Definition
 */

const MAGIC = [0x00, 0x61, 0x73, 0x6d];
const COMPONENT = [0x0d, 0x00, 0x01, 0x00];

/** @type {Sort[]} */
const SORTS = [/* core */ 'value', 'func', 'value', 'type', 'component', 'instance'];

/** @type {Map<number, Sort>} */
const CORE_SORTS = new Map([
  [0x00, 'core func'],
  [0x01, 'core table'],
  [0x02, 'core memory'],
  [0x03, 'core global'],
  [0x10, 'core type'],
  [0x11, 'core module'],
  [0x12, 'core instance'],
]);

/**
 * Reads a component.
 *
 * @param {Uint8Array} bytes
 * @returns {Component}
 */
export function parse(bytes) {
  const starts = (/** @type {number[]} */ magic, at = 0) =>
    magic.every((byte, index) => bytes[at + index] === byte);
  if (!starts(MAGIC)) throw new ComponentError('not WebAssembly');
  if (!starts(COMPONENT, 4)) {
    throw new ComponentError('a core module or another version, not a component: make a component of it');
  }
  return new Parser(new Reader(bytes, 8), null).component();
}

/** Reads one component, and keeps what later sections refer to. */
class Parser extends Scope {
  /** @type {Definition[]} */
  definitions = [];
  /** @type {Export[]} */
  exports = [];
  /** @type {string | null} */
  unsupported = null;
  /** What is known of the instances: what each exports. @type {(Map<string, Described> | null)[]} */
  instances = [];

  /** @param {Reader} reader @param {Parser | null} outer */
  constructor(reader, outer) {
    super(outer);
    this.reader = reader;
  }

  component() {
    const { reader } = this;
    while (!reader.done) {
      const id = reader.byte();
      const section = reader.part(reader.u32());
      this.#section(id, section);
      if (id !== 0 && !section.done) throw section.wrong('a section is too long');
    }
    const { definitions, exports, unsupported } = this;
    return { definitions, exports, unsupported };
  }

  /** Notes why this host cannot run the component, which is read nevertheless. @param {string} why */
  #lacks(why) {
    this.unsupported ??= why;
  }

  /** @param {number} id @param {Reader} section */
  #section(id, section) {
    const each = (/** @type {() => void} */ read) => section.vector(read);
    switch (id) {
      case 0:
        return;
      case 1:
        this.definitions.push({ does: 'module', bytes: section.take(section.end - section.at) });
        return;
      case 2:
        return each(() => this.definitions.push(coreInstance(section)));
      case 4:
        return this.#nested(section);
      case 5:
        return each(() => this.#instance(section));
      case 6:
        return each(() => this.#alias(section));
      case 7:
        return each(() => this.types.push(definition(section, this)));
      case 8:
        return this.#canonicals(section);
      case 10:
        return each(() => this.#import(section));
      case 11:
        return each(() => this.#export(section));
      default:
        throw section.wrong(`a section that this host does not know (${id})`);
    }
  }

  /** @param {Reader} section */
  #nested(section) {
    const magic = [...section.take(8)];
    if (magic.join() !== [...MAGIC, ...COMPONENT].join()) throw section.wrong('no component');
    const component = section.nested(() => {
      const reader = new Reader(section.bytes, section.at, section.end, section.depth);
      return new Parser(reader, this).component();
    });
    section.at = section.end;
    if (component.unsupported) this.#lacks(component.unsupported);
    this.definitions.push({ does: 'component', component });
  }

  /** @param {Reader} section */
  #instance(section) {
    if (section.byte() === 0) {
      const component = section.u32();
      const given = section.vector(() => ({ name: section.name(), ...item(section) }));
      this.definitions.push({ does: 'instantiate', component, with: given });
    } else {
      const exports = section.vector(() => ({ name: externName(section), ...item(section) }));
      this.definitions.push({ does: 'bundle', exports });
    }
    this.instances.push(null);
  }

  /** @param {Reader} section */
  #alias(section) {
    const sort = readSort(section);
    const target = section.byte();
    if (target === 0x02) {
      const [count, index] = [section.u32(), section.u32()];
      if (sort === 'type') this.types.push(this.outerType(section, count, index));
      else this.definitions.push({ does: 'alias outer', sort, count, index });
      return;
    }
    const instance = section.u32();
    const name = section.name();
    if (target === 0x01) {
      this.definitions.push({ does: 'alias core', sort, instance, name });
    } else if (target !== 0x00) {
      throw section.wrong('an alias of an unknown kind');
    } else if (sort === 'type') {
      this.types.push(section.of(this.instances, instance)?.get(name)?.type ?? UNKNOWN);
    } else {
      if (sort === 'instance') this.instances.push(null);
      this.definitions.push({ does: 'alias', sort, instance, name });
    }
  }

  /** @param {Reader} section */
  #canonicals(section) {
    for (let left = section.u32(); left > 0; left -= 1) {
      const kind = section.byte();
      const definition = this.#canonical(kind, section);
      if (!definition) {
        // How long the definition is is not known here, so the rest of the section is skipped.
        section.at = section.end;
        this.#lacks(`it needs a built-in function of the component model that this host lacks (${kind})`);
        return;
      }
      this.definitions.push(definition);
    }
  }

  /** @param {number} kind @param {Reader} section @returns {Definition | null} */
  #canonical(kind, section) {
    switch (kind) {
      case 0x00: {
        section.byte();
        const core = section.u32();
        const options = this.#options(section);
        return { does: 'lift', core, options, type: section.of(this.types, section.u32()) };
      }
      case 0x01:
        section.byte();
        return { does: 'lower', func: section.u32(), options: this.#options(section) };
      case 0x03:
        section.of(this.types, section.u32());
        return { does: 'drop resource' };
      default:
        return null;
    }
  }

  /** @param {Reader} section @returns {Options} */
  #options(section) {
    /** @type {Options} */
    const options = {};
    section.vector(() => {
      const kind = section.byte();
      if (kind === 0x03) options.memory = section.u32();
      else if (kind === 0x04) options.realloc = section.u32();
      else if (kind === 0x05) options.postReturn = section.u32();
      else if (kind === 0x01 || kind === 0x02)
        this.#lacks('it has strings in UTF-16, and this host knows UTF-8 alone');
      else if (kind === 0x06) this.#lacks('it has asynchronous functions, which this host does not run');
      else if (kind === 0x07) section.u32();
      else if (kind !== 0x00) throw section.wrong('an option of an unknown kind');
    });
    return options;
  }

  /** @param {Reader} section */
  #import(section) {
    const name = externName(section);
    const what = described(section, this, name);
    if (what.sort === 'type') return;
    if (what.sort === 'instance') this.instances.push(what.type.exports ?? null);
    this.definitions.push({ does: 'import', name, described: what });
  }

  /** @param {Reader} section */
  #export(section) {
    const name = externName(section);
    const exported = item(section);
    this.exports.push({ name, ...exported });
    if (section.byte() === 1) {
      // The description adds nothing, except that a type gets its number here.
      const before = this.types.length;
      described(section, this, name);
      this.types.length = before;
    }
    // An export is a further element of its index space.
    if (exported.sort === 'type') {
      this.types.push(section.of(this.types, exported.index));
      return;
    }
    if (exported.sort === 'instance') this.instances.push(section.of(this.instances, exported.index));
    this.definitions.push({ does: 'export', item: exported });
  }
}

/** @param {Reader} section @returns {Definition} */
function coreInstance(section) {
  if (section.byte() === 0) {
    const module = section.u32();
    const given = section.vector(() => {
      const name = section.name();
      if (section.byte() !== 0x12) throw section.wrong('an argument that is no instance');
      return { name, instance: section.u32() };
    });
    return { does: 'instantiate module', module, with: given };
  }
  const exports = section.vector(() => {
    const name = section.name();
    return { name, sort: coreSort(section), index: section.u32() };
  });
  return { does: 'bundle core', exports };
}

/** @param {Reader} section @returns {Item} */
const item = (section) => ({ sort: readSort(section), index: section.u32() });

/** @param {Reader} section @returns {Sort} */
function readSort(section) {
  const sort = section.byte();
  return sort === 0 ? coreSort(section) : section.of(SORTS, sort);
}

/** @param {Reader} section @returns {Sort} */
function coreSort(section) {
  const sort = CORE_SORTS.get(section.byte());
  if (!sort) throw section.wrong('something of an unknown kind');
  return sort;
}
