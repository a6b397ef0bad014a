import assert from 'node:assert/strict';
import { test } from 'node:test';

import { limited } from '../src/binary/module.js';
import { ComponentError } from '../src/index.js';
import { instantiate } from '../src/link.js';

/** A core module with a memory of one page, and a function `f` that returns 7. */
const MODULE = Uint8Array.of(
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  5,
  1,
  96,
  0,
  1,
  127,
  3,
  2,
  1,
  0,
  5,
  3,
  1,
  0,
  1,
  7,
  9,
  2,
  1,
  102,
  0,
  0,
  1,
  109,
  2,
  0,
  10,
  6,
  1,
  4,
  0,
  65,
  7,
  11,
);

const instance = { dropResource: () => {} };
const compiled = new WebAssembly.Module(MODULE);
const type = { text: '() -> u32' };

/** @param {any[]} definitions @param {any[]} [exports] */
function linked(definitions, exports = []) {
  const modules = new Map(
    definitions.filter(({ does }) => does === 'module').map((module) => [module, compiled]),
  );
  return instantiate({ definitions, exports, unsupported: null }, new Map(), modules, instance);
}

const LIFTED = [
  { does: 'module', bytes: MODULE },
  { does: 'instantiate module', module: 0, with: [] },
  { does: 'alias core', sort: 'core func', instance: 0, name: 'f' },
  { does: 'lift', core: 0, options: {}, type },
];

test('a function is lifted and exported', () => {
  const exports = linked(LIFTED, [{ name: 'g', sort: 'func', index: 0 }]);
  assert.equal(exports.get('g')?.value.core(), 7);
  assert.equal(exports.get('g')?.value.type, '() -> u32');
});

test('a call from one component into another traps, and does nothing else', () => {
  const exports = linked(
    [...LIFTED, { does: 'lower', func: 0, options: {} }, { does: 'lift', core: 1, options: {}, type }],
    [{ name: 'g', sort: 'func', index: 1 }],
  );
  assert.throws(() => exports.get('g')?.value.core(), /one component of several has called another/);
});

test('an inner component has what it is given, and what lies around it', () => {
  const component = {
    definitions: [
      { does: 'import', name: 'in', described: { sort: 'func', type } },
      { does: 'alias outer', sort: 'core module', count: 1, index: 0 },
      { does: 'instantiate module', module: 0, with: [] },
      { does: 'alias core', sort: 'core memory', instance: 0, name: 'm' },
      { does: 'export', item: { sort: 'func', index: 0 } },
    ],
    exports: [{ name: 'out', sort: 'func', index: 1 }],
    unsupported: null,
  };
  const exports = linked(
    [
      ...LIFTED,
      { does: 'component', component },
      { does: 'instantiate', component: 0, with: [{ name: 'in', sort: 'func', index: 0 }] },
      { does: 'alias', sort: 'func', instance: 0, name: 'out' },
    ],
    [{ name: 'out', sort: 'func', index: 1 }],
  );
  assert.equal(exports.get('out')?.value.core(), 7);
});

test('what is not there is an error', () => {
  for (const wrong of [
    [{ does: 'instantiate module', module: 0, with: [] }],
    [...LIFTED, { does: 'alias core', sort: 'core func', instance: 0, name: 'constructor' }],
    [
      { does: 'bundle core', exports: [] },
      { does: 'alias core', sort: 'core func', instance: 0, name: 'constructor' },
    ],
    [
      { does: 'bundle', exports: [] },
      { does: 'alias', sort: 'func', instance: 0, name: 'f' },
    ],
    [{ does: 'alias outer', sort: 'core module', count: 1, index: 0 }],
    [{ does: 'import', name: 'in', described: { sort: 'func', type } }],
  ])
    assert.throws(() => linked(wrong), ComponentError, JSON.stringify(wrong));
});

test('a memory grows to its share, and no further', () => {
  const { m } = new WebAssembly.Instance(new WebAssembly.Module(limited(MODULE, 3))).exports;
  const memory = /** @type {WebAssembly.Memory} */ (m);
  assert.equal(memory.grow(2), 1);
  assert.throws(() => memory.grow(1), RangeError);
});
