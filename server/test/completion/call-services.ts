import { createProviderHealth } from "../../src/completion/provider-health.ts";
import type { CompletionServices } from "../../src/completion/run-completion.ts";
import { createRedactor } from "../../src/telemetry/redactor.ts";
import type { Clock } from "../../src/lib/clock.ts";
import type { Provider } from "../../src/providers/provider.ts";
import type { ConnectedProvider } from "../../src/providers/provider-set.ts";
import type { Transport } from "../../src/providers/transport.ts";

/** The parts of the completion path that ask candidates: nobody is asked again, unless the test wants it. */
export const callServices = (
  clock: Clock,
): Pick<CompletionServices, "health" | "hedgeOf" | "maxRetries" | "random" | "events" | "redactor"> => ({
  redactor: createRedactor(),
  health: createProviderHealth({ clock, onChange: () => undefined, onCooldown: () => undefined }),
  hedgeOf: () => undefined,
  maxRetries: 0,
  random: () => 0,
  events: {
    attemptFailed: () => undefined,
    retried: () => undefined,
    hedged: () => undefined,
    broke: () => undefined,
    rescued: () => undefined,
  },
});

export const connectedTo = (provider: Provider, transport: Transport): ConnectedProvider => ({
  provider,
  transport,
  maxInFlight: 100,
  maxQueued: 10,
  timeoutsOf: () => ({
    connectMs: 1_000,
    firstTokenMs: 1_000,
    thinkingFirstTokenMs: 1_000,
    idleMs: 1_000,
    attemptMs: 1_000,
  }),
});
