import { runChecks } from "./checks/run-checks.ts";

const { passed, failed } = await runChecks();
console.log(`${passed} checks passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
