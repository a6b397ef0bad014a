import { Reader } from './reader.js';

/**
 * A type, as text, so that two types are equal if their texts are. For an instance also what it
 * exports.
 *
 * @typedef {object} Type
 * @property {string} text
 * @property {Map<string, Described>} [exports]
 */

/**
 * What an instance type says of an export.
 *
 * @typedef {object} Described
 * @property {'module' | 'func' | 'value' | 'type' | 'component' | 'instance'} sort
 * @property {Type} type
 */

/** The texts of the primitive types, by the byte that stands for them. */
const PRIMITIVES = new Map([
  [0x7f, 'bool'],
  [0x7e, 's8'],
  [0x7d, 'u8'],
  [0x7c, 's16'],
  [0x7b, 'u16'],
  [0x7a, 's32'],
  [0x79, 'u32'],
  [0x78, 's64'],
  [0x77, 'u64'],
  [0x76, 'f32'],
  [0x75, 'f64'],
  [0x74, 'char'],
  [0x73, 'string'],
  [0x64, 'error-context'],
]);

/** Longer texts are cut: a type can be exponentially large, and this host knows no such type. */
const LONGEST = 4000;

/** The type of something that this host need not know. @type {Type} */
export const UNKNOWN = { text: '?' };

/** @param {string} text @returns {Type} */
const type = (text) => ({ text: text.length > LONGEST ? '?' : text });

/** The type index space of a component, or of an instance type, and of those around it. */
export class Scope {
  /** @type {Type[]} */
  types = [];
  /** @type {Scope | null} */
  outer;

  /** @param {Scope | null} [outer] */
  constructor(outer = null) {
    this.outer = outer;
  }

  /**
   * Returns the type that an `outer` alias means.
   *
   * @param {Reader} reader
   * @param {number} count how many levels out
   * @param {number} index
   */
  outerType(reader, count, index) {
    /** @type {Scope | null} */
    let scope = this;
    for (let level = 0; level < count; level += 1) scope = scope?.outer ?? null;
    if (!scope) throw reader.wrong('an alias leads out of the component');
    return reader.of(scope.types, index);
  }
}

/**
 * Reads a type definition.
 *
 * @param {Reader} reader
 * @param {Scope} scope
 * @returns {Type}
 */
export function definition(reader, scope) {
  const kind = reader.byte();
  switch (kind) {
    case 0x40:
    case 0x43:
      return functionType(reader, scope, kind === 0x43);
    case 0x41:
    case 0x42:
      return reader.nested(() => ({ text: '?', exports: declarations(reader, new Scope(scope)) }));
    case 0x3f:
      reader.byte();
      if (reader.byte() === 1) reader.u32();
      return UNKNOWN;
    default:
      return valueDefinition(kind, reader, scope);
  }
}

/**
 * Reads a function type.
 *
 * @param {Reader} reader
 * @param {Scope} scope
 * @param {boolean} async
 */
function functionType(reader, scope, async) {
  const parameters = reader.vector(() => `${reader.name()}: ${value(reader, scope)}`);
  const none = reader.byte() === 1;
  if (none) reader.byte();
  const result = none ? '' : ` -> ${value(reader, scope)}`;
  return type(`${async ? 'async ' : ''}(${parameters.join(', ')})${result}`);
}

/**
 * Reads the rest of the definition of a value type.
 *
 * @param {number} kind
 * @param {Reader} reader
 * @param {Scope} scope
 */
function valueDefinition(kind, reader, scope) {
  const primitive = PRIMITIVES.get(kind);
  if (primitive) return type(primitive);
  const one = () => value(reader, scope);
  const maybe = () => (reader.byte() === 1 ? one() : '_');
  const list = (/** @type {string[]} */ parts) => parts.join(', ');
  switch (kind) {
    case 0x72:
      return type(`record { ${list(reader.vector(() => `${reader.name()}: ${one()}`))} }`);
    case 0x71:
      return type(`variant { ${list(reader.vector(() => variantCase(reader, maybe)))} }`);
    case 0x70:
      return type(`list<${one()}>`);
    case 0x67:
      return type(`list<${one()}, ${reader.u32()}>`);
    case 0x6f:
      return type(`tuple<${list(reader.vector(one))}>`);
    case 0x6e:
      return type(`flags { ${list(reader.vector(() => reader.name()))} }`);
    case 0x6d:
      return type(`enum { ${list(reader.vector(() => reader.name()))} }`);
    case 0x6b:
      return type(`option<${one()}>`);
    case 0x6a:
      return type(`result<${maybe()}, ${maybe()}>`);
    case 0x69:
      return type(`own<${reader.of(scope.types, reader.u32()).text}>`);
    case 0x68:
      return type(`borrow<${reader.of(scope.types, reader.u32()).text}>`);
    case 0x66:
      return type(`stream<${maybe()}>`);
    case 0x65:
      return type(`future<${maybe()}>`);
    default:
      throw reader.wrong(`a type of an unknown kind (0x${kind.toString(16)})`);
  }
}

/** @param {Reader} reader @param {() => string} maybe */
function variantCase(reader, maybe) {
  const name = reader.name();
  const payload = maybe();
  reader.byte();
  return payload === '_' ? name : `${name}(${payload})`;
}

/** @param {Reader} reader @param {Scope} scope @returns {string} */
function value(reader, scope) {
  const primitive = PRIMITIVES.get(reader.bytes[reader.at]);
  if (primitive) {
    reader.byte();
    return primitive;
  }
  return reader.of(scope.types, reader.u32()).text;
}

/**
 * Reads the declarations of an instance or component type, and returns the exports.
 *
 * @param {Reader} reader
 * @param {Scope} scope
 */
function declarations(reader, scope) {
  /** @type {Map<string, Described>} */
  const exports = new Map();
  reader.vector(() => {
    switch (reader.byte()) {
      case 0x01:
        scope.types.push(definition(reader, scope));
        break;
      case 0x02: {
        const [sort, kind] = [reader.byte(), reader.byte()];
        if (sort !== 0x03 || kind !== 0x02) throw reader.wrong('an alias that is not known');
        scope.types.push(scope.outerType(reader, reader.u32(), reader.u32()));
        break;
      }
      case 0x03:
        described(reader, scope, externName(reader));
        break;
      case 0x04: {
        const name = externName(reader);
        exports.set(name, described(reader, scope, name));
        break;
      }
      default:
        throw reader.wrong('a declaration that is not known');
    }
  });
  return exports;
}

/** Reads the name of an import or export. @param {Reader} reader */
export function externName(reader) {
  const kind = reader.byte();
  const name = reader.name();
  if (kind === 2) reader.name();
  else if (kind > 2) throw reader.wrong('a name of an unknown kind');
  return name;
}

/**
 * Reads the description of an import or export. A type enters the index space of types.
 *
 * @param {Reader} reader
 * @param {Scope} scope
 * @param {string} name
 * @returns {Described}
 */
export function described(reader, scope, name) {
  const indexed = () => reader.of(scope.types, reader.u32());
  switch (reader.byte()) {
    case 0x00:
      reader.byte();
      reader.u32();
      return { sort: 'module', type: UNKNOWN };
    case 0x01:
      return { sort: 'func', type: indexed() };
    case 0x02:
      if (reader.byte() === 0) reader.u32();
      else value(reader, scope);
      return { sort: 'value', type: UNKNOWN };
    case 0x03: {
      // A resource is known by its name.
      const described = reader.byte() === 0 ? indexed() : type(name);
      scope.types.push(described);
      return { sort: 'type', type: described };
    }
    case 0x04:
      return { sort: 'component', type: indexed() };
    case 0x05:
      return { sort: 'instance', type: indexed() };
    default:
      throw reader.wrong('a description of an unknown kind');
  }
}
