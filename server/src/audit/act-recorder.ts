import type { Clock } from "../lib/clock.ts";
import { entryOfAct } from "./audit-entry.ts";
import type { AuditTrail } from "./audit-trail.ts";
import type { ChainWriter } from "./chain-writer.ts";

/** An audit trail for acts alone, for who serves no requests. */
export const createActRecorder = (chain: ChainWriter, clock: Clock): AuditTrail => ({
  noteRequest: () => undefined,
  recordIn: (transaction, act) => chain.appendIn(transaction, [entryOfAct(act, clock.now())]),
  record: async (act) => void (await chain.groupOf([entryOfAct(act, clock.now())])()),
});
