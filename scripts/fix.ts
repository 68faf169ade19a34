import { runTool } from "./checks/tool.ts";

// The formatter comes last: what the linter mends is not formatted yet.
const lint = await runTool("oxlint/bin/oxlint", ["--fix", "--format=unix"]);
const format = await runTool("oxfmt/bin/oxfmt", []);
console.log(`${lint.output.trim()}\n${format.output.trim()}`);
process.exit(lint.exitCode === 0 && format.exitCode === 0 ? 0 : 1);
