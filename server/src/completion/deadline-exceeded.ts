import { BrikkError } from "../errors.ts";

/** What ends a request that has taken all the time there is for one. */
export const deadlineExceeded = (ms: number): BrikkError =>
  new BrikkError(
    "deadline_exceeded",
    `The request was not answered in full within ${ms / 1_000} s, all attempts together, which is as long as this server works on one.`,
    { details: { limit_ms: ms } },
  );
