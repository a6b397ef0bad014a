// Builds what `halfopen dev` serves: build/dev/service.wasm, QuickJS with the interfaces that the
// service imports, and build/dev/env, the service as text, which it loads. The first takes seconds,
// and seldom changes.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const OUTPUT = "build/dev";
const entry = ["src/service.ts", "src/service.js"].find(existsSync);

// esbuild prints what is wrong.
const built = await build({
  entryPoints: [entry],
  bundle: true,
  external: ["halfopen:*", "wasi:*"],
  format: "iife",
  globalName: "service",
  logLevel: "warning",
  metafile: true,
  outfile: "service.js",
  sourcesContent: false,
  target: "es2023",
  write: false,
}).catch(() => process.exit(1));
const [{ imports }] = Object.values(built.metafile.outputs);

mkdirSync(OUTPUT, { recursive: true });
const loader = load(imports.map(({ path }) => path));
const key = createHash("sha256").update(loader).update(wit("wit")).digest("hex");
if (!existsSync(`${OUTPUT}/key`) || readFileSync(`${OUTPUT}/key`, "utf8") !== key) {
  console.error("the imports are new, so the component is built, which takes longer");
  const { componentize } = await import("componentize-qjs");
  const options = { witPath: "wit", world: "guest", jsSource: loader, sync: true };
  const { component } = await componentize(options);
  writeFileSync(`${OUTPUT}/service.wasm`, component);
  writeFileSync(`${OUTPUT}/key`, key);
}
writeFileSync(`${OUTPUT}/env`, `HALFOPEN_DEV=${JSON.stringify(built.outputFiles[0].text)}\n`);

// A service that takes its code from the variable when its first event comes.
function load(imports) {
  const own = [...new Set(imports)].sort();
  const events = ["connection", "data", "end", "drain", "timeout", "error", "close"];
  const calls = events.map((event) => `${event}: (...v) => loaded().events.${event}(...v)`);
  return `
${own.map((path, i) => `import i${i} from ${JSON.stringify(path)};`).join("\n")}
import environment from "wasi:cli/environment@0.2.0";
const modules = { ${own.map((path, i) => `${JSON.stringify(path)}: i${i}`).join(", ")} };
// esbuild takes it for a module of Node, or for one of its own.
const require = (name) => ({ ...modules[name], default: modules[name], __esModule: true });
let service;
function loaded() {
  if (service === undefined) {
    const [, text] = environment.getEnvironment().find(([name]) => name === "HALFOPEN_DEV");
    service = new Function("require", JSON.parse(text) + "; return service;")(require);
  }
  return service;
}
export const events = { ${calls.join(", ")} };
export const timerEvents = { fired: (timer) => loaded().timerEvents.fired(timer) };
`;
}

function wit(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const paths = files.map((file) => `${file.parentPath ?? file.path}/${file.name}`).sort();
  return paths.map((path) => `${path}\n${readFileSync(path, "utf8")}`).join("\n");
}
