import { onFaultPoint } from "../../src/lib/fault-point.ts";

/**
 * Preloaded into a gateway that a test wants dead at a certain step: BRIKK_TEST_KILL_AT=point:n ends the process without a word
 * when it passes the point for the n-th time.
 */
const [point, passes] = (process.env["BRIKK_TEST_KILL_AT"] ?? "").split(":");
let left = Number(passes);
onFaultPoint((reached) => {
  if (reached === point && --left === 0) process.kill(process.pid, "SIGKILL");
});
