import type { BrikkError, ErrorBody } from "../errors.ts";
import type { Redactor } from "../telemetry/redactor.ts";

/** What a conversation says of a failure, and is kept with it; a vendor's own words in it may repeat a secret. */
export const shownFailure = (
  redactor: Pick<Redactor, "json">,
  failure: BrikkError,
  requestId: string,
): ErrorBody["error"] => (JSON.parse(redactor.json(JSON.stringify(failure.body(requestId)))) as ErrorBody).error;
