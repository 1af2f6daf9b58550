// Build the page: `npm ci && npm run build`. Writes dist/, which is committed, so that users need no Node.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";

const LICENSE = /^licen[cs]e(\.\w+)?$/i;

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
const sources = [...readdirSync("src").map((name) => `src/${name}`), "package-lock.json", "build.mjs"].sort();
const digest = createHash("sha256");
for (const name of sources) digest.update(readFileSync(name));
const result = await build({
  entryPoints: ["src/page.ts"],
  outfile: "dist/page.js",
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  metafile: true,
  banner: { js: `/* Licenses: LICENSES.txt. Sources: ${digest.digest("hex")} */` },
});
copyFileSync("src/index.html", "dist/index.html");
copyFileSync("src/page.css", "dist/page.css");

const inputs = Object.keys(result.metafile.inputs);
const names = inputs.flatMap((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []);
const texts = [...new Set(names)].sort().map((name) => {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((entry) => LICENSE.test(entry));
  if (!file) throw new Error(`${name} has no license file`);
  return `${name} ${version} (${license})\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
});
const title = "page.js contains these packages, unchanged but minified.\n";
writeFileSync("dist/LICENSES.txt", [title, ...texts].join(`\n${"-".repeat(80)}\n\n`));
