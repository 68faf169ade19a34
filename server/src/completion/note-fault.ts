import type { ProviderError } from "../providers/provider.ts";
import type { CandidateCall } from "./call-candidates.ts";
import type { Candidate } from "./model-router.ts";
import type { CallServices } from "./run-completion.ts";

/** Keeps the fault with the candidate: each is asked again by its own last one, whatever became of those asked beside it. */
export const noteFault =
  ({ events }: CallServices, { asked }: CandidateCall) =>
  (candidate: Candidate, error: ProviderError): void => {
    asked.set(candidate, error);
    events.attemptFailed(candidate, error);
  };
