import type { Admitted } from "../access/rate-limiter.ts";
import { totalTokens } from "../ledger/usage.ts";
import type { CompletionServices } from "./run-completion.ts";

/** Whatever becomes of a request, what it used counts against its key's tokens per minute before its answer ends. */
export const chargingServices = (services: CompletionServices, admission: Admitted): CompletionServices => ({
  ...services,
  record: (record) => {
    services.record(record);
    if (record.usage) admission.charge(totalTokens(record.usage));
  },
});
