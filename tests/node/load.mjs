// Loads components: jco translates them.
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { transpileBytes } from '@bytecodealliance/jco-transpile';

const HERE = dirname(fileURLToPath(import.meta.url));

/** Returns the exports of a component in await style; connection.mjs provides `halfopen:tcp`. */
export async function load(path) {
  const place = await translate(path, {
    map: Object.fromEntries(
      ['connections', 'peer'].map((name) => [
        `halfopen:tcp/${name}@0.1.0`,
        pathToFileURL(join(HERE, 'connection.mjs')).href,
      ]),
    ),
  });
  return import(main(place));
}

const main = (place) => pathToFileURL(join(place, 'component.js')).href;

/** Returns the folder of the translation. It is cached, because translating takes seconds. */
async function translate(path, options) {
  const component = await readFile(path);
  const cache = join(HERE, 'node_modules/.cache');
  // A translation names files of this folder.
  const key = createHash('sha256').update(component).update(HERE).update(JSON.stringify(options));
  key.update(await readFile(join(HERE, 'package-lock.json')));
  const place = join(cache, key.digest('hex'));
  if (await readFile(join(place, 'component.js')).catch(() => null)) return place;
  await mkdir(cache, { recursive: true });
  const temporary = await mkdtemp(join(cache, 'new-'));
  const { files } = await transpileBytes(component, { name: 'component', ...options });
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(temporary, name)), { recursive: true });
    await writeFile(join(temporary, name), bytes);
  }
  // Another process may have been faster.
  await rename(temporary, place).catch(() => rm(temporary, { recursive: true }));
  return place;
}
