import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { generatedFiles } from "./checks/generated-files.ts";
import { readIfThere, repositoryRoot } from "./checks/repository.ts";

for (const { path, render } of generatedFiles) {
  const text = await render();
  const changed = readIfThere(path) !== text;
  if (changed) {
    mkdirSync(dirname(join(repositoryRoot, path)), { recursive: true });
    writeFileSync(join(repositoryRoot, path), text);
  }
  console.log(`${path}: ${changed ? "written" : "was current"}`);
}
