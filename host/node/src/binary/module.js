import { ComponentError, Reader } from './reader.js';

/** The bytes of a page of linear memory. */
const PAGE = 65_536;

/** The most pages of a memory with addresses of 32 bits. */
const MOST_PAGES = 65_536;

/** The most elements of a table, unless it begins with more. */
const MOST_ELEMENTS = 20_000;

/**
 * Returns with how many bytes the memories of a core module begin.
 *
 * @param {Uint8Array} module
 */
export function initialMemory(module) {
  let pages = 0;
  sections(module, (id, section) => {
    if (id === 5) for (const { min } of section.vector(() => limits(section))) pages += min;
  });
  return pages * PAGE;
}

/**
 * Returns the module with a maximum on each of its memories and tables, so that the engine itself
 * refuses to let them grow further.
 *
 * @param {Uint8Array} module
 * @param {number} share how many times as large as at the beginning a memory may become
 */
export function limited(module, share) {
  /** @type {Uint8Array[]} */
  const parts = [module.subarray(0, 8)];
  sections(module, (id, section, whole) => {
    if (id === 4) parts.push(rewritten(id, section, (out) => table(section, out)));
    else if (id === 5) parts.push(rewritten(id, section, (out) => memory(section, out, share)));
    else parts.push(whole);
  });
  return new Uint8Array(Buffer.concat(parts));
}

/**
 * @param {Uint8Array} module
 * @param {(id: number, section: Reader, whole: Uint8Array) => void} visit
 */
function sections(module, visit) {
  const reader = new Reader(module, 8);
  while (!reader.done) {
    const start = reader.at;
    const id = reader.byte();
    const section = reader.part(reader.u32());
    visit(id, section, module.subarray(start, reader.at));
  }
}

/**
 * @param {number} id
 * @param {Reader} section
 * @param {(out: number[]) => void} element writes the next element
 */
function rewritten(id, section, element) {
  const count = section.u32();
  const body = number([], count);
  for (let index = 0; index < count; index += 1) element(body);
  return Uint8Array.from([...number([id], body.length), ...body]);
}

/** @param {Reader} section @param {number[]} out @param {number} share */
function memory(section, out, share) {
  const { flags, min, max } = limits(section);
  if (flags & 0x02) throw new ComponentError('it shares memory between threads, which this host does not');
  // Without pages at the beginning there is nothing to measure by.
  const most = Math.min(Math.floor(Math.max(min, 1) * share), MOST_PAGES);
  out.push(0x01);
  number(number(out, min), Math.min(max ?? most, most));
}

/** @param {Reader} section @param {number[]} out */
function table(section, out) {
  const start = section.at;
  // `0x40 0x00` comes before a table with an initial value, which is an expression.
  if (section.bytes[start] === 0x40) throw new ComponentError('it has a table with an initial value');
  const type = section.byte();
  const heap = type === 0x63 || type === 0x64 ? [section.byte()] : [];
  const { min, max } = limits(section);
  const most = Math.max(min, MOST_ELEMENTS);
  out.push(type, ...heap, 0x01);
  number(number(out, min), Math.min(max ?? most, most));
}

/** @param {Reader} section */
function limits(section) {
  const flags = section.byte();
  if (flags > 3) throw new ComponentError('it has a memory or table of 64 bits');
  const min = section.u32();
  return { flags, min, max: flags & 0x01 ? section.u32() : undefined };
}

/** Appends an unsigned number (LEB128). @param {number[]} out @param {number} value */
function number(out, value) {
  do {
    const byte = value % 128;
    value = Math.floor(value / 128);
    out.push(value ? byte | 0x80 : byte);
  } while (value);
  return out;
}
