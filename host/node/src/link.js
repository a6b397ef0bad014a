// Instantiates a component: carries out its definitions, one after the other.
import { ComponentError } from './binary/reader.js';
import { GuestMemory, Trap } from './memory.js';

/** @typedef {import('./binary/component.js').Component} Component */
/** @typedef {import('./binary/component.js').Definition} Definition */
/** @typedef {import('./binary/component.js').Options} Options */
/** @typedef {import('./binary/component.js').Export} Export */
/** @typedef {import('./binary/component.js').Sort} Sort */

/**
 * A function of the host: its type, as text, and how it is made for an instance.
 *
 * @typedef {object} HostFunction
 * @property {string | null} type `null` if it is not compared
 * @property {(instance: any, memory: GuestMemory) => Function} make
 */

/**
 * A function that the component has lifted: the core function, and how its arguments are passed.
 *
 * @typedef {object} Lifted
 * @property {Function} core
 * @property {GuestMemory | null} memory
 * @property {Function | null} postReturn
 * @property {string} type
 */

/** @typedef {Map<string, { sort: Sort, value: any }>} Named */

/**
 * Returns what a component exports. `given` are its imports, and `compiled` its core modules.
 *
 * @param {Component} component
 * @param {Named} given
 * @param {Map<Definition, WebAssembly.Module>} compiled
 * @param {{ dropResource: (handle: number) => void }} instance what functions of the host are made for
 * @returns {Named}
 */
export function instantiate(component, given, compiled, instance) {
  return new Linking(component, compiled, instance, null).run(given);
}

/** The index spaces of a component that is being instantiated. */
class Linking {
  /** @type {Record<Sort, any[]>} */
  #spaces = {
    'core func': [],
    'core table': [],
    'core memory': [],
    'core global': [],
    'core type': [],
    'core module': [],
    'core instance': [],
    func: [],
    value: [],
    type: [],
    component: [],
    instance: [],
  };
  /** @type {GuestMemory[]} */
  #memories = [];
  #component;
  #compiled;
  #instance;
  #outer;

  /**
   * @param {Component} component
   * @param {Map<Definition, WebAssembly.Module>} compiled
   * @param {{ dropResource: (handle: number) => void }} instance
   * @param {Linking | null} outer
   */
  constructor(component, compiled, instance, outer) {
    this.#component = component;
    this.#compiled = compiled;
    this.#instance = instance;
    this.#outer = outer;
  }

  /** @param {Named} given @returns {Named} */
  run(given) {
    for (const definition of this.#component.definitions) this.#define(definition, given);
    return this.#named(this.#component.exports);
  }

  /** @param {Sort} sort @param {number} index */
  #get(sort, index) {
    const space = this.#spaces[sort];
    if (index >= space.length)
      throw new ComponentError(`not a valid component: there is no ${sort} ${index}`);
    return space[index];
  }

  /** @param {Export[]} items @returns {Named} */
  #named(items) {
    const named = items.filter(({ sort }) => sort !== 'type');
    return new Map(named.map(({ name, sort, index }) => [name, { sort, value: this.#get(sort, index) }]));
  }

  /** @param {Named} named @param {string} name @param {Sort} sort */
  #take(named, name, sort) {
    const found = named.get(name);
    if (found?.sort !== sort)
      throw new ComponentError(`not a valid component: no ${sort} is named \`${name}\``);
    return found.value;
  }

  /** @param {Definition} definition @param {Named} given */
  #define(definition, given) {
    const spaces = this.#spaces;
    switch (definition.does) {
      case 'import': {
        const { name, described } = definition;
        const sort = described.sort === 'module' ? 'core module' : described.sort;
        spaces[sort].push(this.#take(given, name, sort));
        break;
      }
      case 'module':
        spaces['core module'].push(this.#compiled.get(definition));
        break;
      case 'component':
        spaces.component.push(definition.component);
        break;
      case 'instantiate module':
        spaces['core instance'].push(this.#core(definition.module, definition.with));
        break;
      case 'bundle core':
        spaces['core instance'].push(this.#bundle(definition.exports));
        break;
      case 'instantiate': {
        const component = this.#get('component', definition.component);
        const linking = new Linking(component, this.#compiled, this.#instance, this);
        spaces.instance.push(linking.run(this.#named(definition.with)));
        break;
      }
      case 'bundle':
        spaces.instance.push(this.#named(definition.exports));
        break;
      case 'alias': {
        const { sort, instance, name } = definition;
        spaces[sort].push(this.#take(this.#get('instance', instance), name, sort));
        break;
      }
      case 'alias core': {
        const { sort, instance, name } = definition;
        const value = this.#get('core instance', instance)[name];
        if (value === undefined)
          throw new ComponentError(`not a valid component: no ${sort} is named \`${name}\``);
        spaces[sort].push(value);
        break;
      }
      case 'alias outer': {
        /** @type {Linking | null} */
        let linking = this;
        for (let level = 0; level < definition.count; level += 1) linking = linking && linking.#outer;
        if (!linking) throw new ComponentError('not a valid component: an alias leads out of it');
        spaces[definition.sort].push(linking.#get(definition.sort, definition.index));
        break;
      }
      case 'lift': {
        const { core, options, type } = definition;
        const { memory, postReturn } = this.#options(options);
        spaces.func.push({ core: this.#get('core func', core), memory, postReturn, type: type.text });
        break;
      }
      case 'lower':
        spaces['core func'].push(this.#lower(this.#get('func', definition.func), definition.options));
        break;
      case 'drop resource':
        spaces['core func'].push((/** @type {number} */ handle) => this.#instance.dropResource(handle));
        break;
      case 'export':
        spaces[definition.item.sort].push(this.#get(definition.item.sort, definition.item.index));
        break;
    }
  }

  /** @param {number} module @param {{ name: string, instance: number }[]} given */
  #core(module, given) {
    const imports = given.map(({ name, instance }) => [name, this.#get('core instance', instance)]);
    return new WebAssembly.Instance(this.#get('core module', module), record(imports)).exports;
  }

  /** @param {Export[]} exports */
  #bundle(exports) {
    return record(exports.map(({ name, sort, index }) => [name, this.#get(sort, index)]));
  }

  /** @param {HostFunction | Lifted} func @param {Options} options */
  #lower(func, options) {
    if (!('make' in func)) {
      // Some compilers link components in that nothing calls any more.
      return () => {
        throw new Trap('one component of several has called another, which this host does not do');
      };
    }
    return func.make(this.#instance, this.#options(options).memory ?? NO_MEMORY);
  }

  /** @param {Options} options */
  #options({ memory, realloc, postReturn }) {
    const reallocs = realloc === undefined ? null : this.#get('core func', realloc);
    return {
      memory: memory === undefined ? null : this.#guestMemory(this.#get('core memory', memory), reallocs),
      postReturn: postReturn === undefined ? null : this.#get('core func', postReturn),
    };
  }

  /** Most functions have the same memory. @param {WebAssembly.Memory} memory @param {any} realloc */
  #guestMemory(memory, realloc) {
    const known = this.#memories.find((known) => known.is(memory, realloc));
    if (known) return known;
    const made = new GuestMemory(memory, realloc);
    this.#memories.push(made);
    return made;
  }
}

/** Returns an object that has these properties, and inherits none. @param {any[][]} entries */
function record(entries) {
  const made = Object.create(null);
  for (const [name, value] of entries) made[name] = value;
  return made;
}

/** For functions that need no memory. */
const NO_MEMORY = new GuestMemory(/** @type {any} */ ({ buffer: new ArrayBuffer(0) }), null);
