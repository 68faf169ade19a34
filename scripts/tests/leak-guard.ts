import { after } from "node:test";

/**
 * Preloaded into every test file. The runner waits for a file's process to end, so a handle that a test left open would hold up
 * the whole run; here it fails the file and is named. The timer keeps nothing alive itself: it fires only when something else does.
 */
const GRACE_MS = 10_000;

after(() => {
  setTimeout(() => {
    process.stderr.write(
      `Something a test opened is still open ${GRACE_MS / 1_000} s after the last test: ${process.getActiveResourcesInfo().join(", ")}.\n`,
    );
    process.exit(1);
  }, GRACE_MS).unref();
});
