import type { Config, TimeoutConfig } from "../config.ts";
import { createMistral } from "./mistral/mistral.ts";
import { createOpenAiCompatible, type OpenAiCompatibleOptions } from "./openai-compatible/openai-compatible.ts";
import type { Provider } from "./provider.ts";
import { createTransport, type Transport } from "./transport.ts";

/** A provider together with the connections to it. */
export interface ConnectedProvider {
  readonly provider: Provider;
  readonly transport: Transport;
  readonly maxInFlight: number;
  readonly maxQueued: number;
  timeoutsOf(model: { readonly id: string; readonly reasons: boolean }): TimeoutConfig;
}

export interface ProviderSet {
  readonly all: readonly ConnectedProvider[];
  find(name: string): ConnectedProvider | undefined;
  close(): Promise<void>;
}

/** Where the simulator serves each vendor; given when no provider is configured. */
export type SimulatedAddresses = Readonly<Record<string, string>>;

const adapters: Readonly<Record<Config["providers"][number]["name"], (options: OpenAiCompatibleOptions) => Provider>> =
  {
    openai: createOpenAiCompatible,
    mistral: createMistral,
  };

/** Without any provider's key the gateway needs the simulator in their place. */
export const needsSimulator = (config: Config): boolean =>
  config.providers.every((provider) => provider.apiKey === undefined);

export function connectProviders(config: Config, simulated: SimulatedAddresses | undefined): ProviderSet {
  const all: ConnectedProvider[] = [];
  for (const { name, apiKey, baseUrl, defaultModel } of config.providers) {
    const simulatedUrl = simulated?.[name];
    const key = simulatedUrl === undefined ? apiKey : "simulated";
    if (key === undefined) continue;
    const address = simulatedUrl ?? baseUrl;
    all.push({
      provider: adapters[name]({
        name,
        baseUrl: address,
        apiKey: key,
        defaultModel,
        simulated: simulatedUrl !== undefined,
      }),
      transport: createTransport({
        provider: name,
        origin: new URL(address).origin,
        connectTimeoutMs: config.connectTimeoutMs,
        maxConnections: 1_024,
      }),
      maxInFlight: 1_000,
      maxQueued: 200,
      timeoutsOf: ({ reasons }) => ({
        connectMs: config.connectTimeoutMs,
        firstTokenMs: reasons ? config.thinkingFirstTokenTimeoutMs : config.firstTokenTimeoutMs,
        thinkingFirstTokenMs: config.thinkingFirstTokenTimeoutMs,
        idleMs: config.idleTimeoutMs,
        attemptMs: reasons
          ? Math.max(config.providerTimeoutMs, config.thinkingFirstTokenTimeoutMs)
          : config.providerTimeoutMs,
      }),
    });
  }
  const byName = new Map(all.map((connected) => [connected.provider.name, connected]));
  return {
    all,
    find: (name) => byName.get(name),
    close: async () => {
      await Promise.all(all.map(({ transport }) => transport.close()));
    },
  };
}
