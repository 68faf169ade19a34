import { isDeepStrictEqual } from "node:util";
import { type Config, type Dialect, isConfigured, type ProviderConfig, type TimeoutConfig } from "../config.ts";
import { timeoutsIn } from "../config/resolve-providers.ts";
import { createMistral } from "./mistral/mistral.ts";
import { createOpenAiCompatible, type OpenAiCompatibleOptions } from "./openai-compatible/openai-compatible.ts";
import type { Provider, TargetModel } from "./provider.ts";
import { createTransport, type Transport, type TransportOptions } from "./transport.ts";

/** A provider together with the connections to it. Whoever holds one may go on asking it, also when the set has a newer one. */
export interface ConnectedProvider {
  readonly provider: Provider;
  readonly transport: Transport;
  /** Requests that may be at the provider at a time, and how many more may wait. */
  readonly maxInFlight: number;
  readonly maxQueued: number;
  /** The model's own, else the provider's; a model that thinks before it speaks gets the time it needs for that. */
  timeoutsOf(model: TargetModel): TimeoutConfig;
}

/** What can be asked at the moment; `replace` changes it for whoever looks next. */
export interface ProviderSet {
  readonly all: readonly ConnectedProvider[];
  /** The names of all that there are, with those that cannot be asked for want of a key. */
  readonly known: readonly string[];
  find(name: string): ConnectedProvider | undefined;
  /**
   * Takes other providers in. One that is as it was keeps its connections; those of one that changed or went away are closed
   * when no request can need them any more. Gives the names of those that went away or are another server now, of which nothing
   * is known that was learnt of the one before.
   */
  replace(providers: readonly ProviderConfig[], simulated: SimulatedAddresses | undefined): readonly string[];
  close(): Promise<void>;
}

/** Where the simulator serves each vendor; given when no provider is configured. */
export type SimulatedAddresses = Readonly<Record<string, string>>;

const adapters: Readonly<Record<Dialect, (options: OpenAiCompatibleOptions) => Provider>> = {
  openai: createOpenAiCompatible,
  mistral: createMistral,
};

/** Without any provider that can be asked, the gateway needs the simulator in their place. */
export const needsSimulator = (config: Pick<Config, "providers">): boolean => !config.providers.some(isConfigured);

/** At least this many, as what is in hand may be more than what is let in (probes, connections that are being closed). */
const LEAST_CONNECTIONS = 1_024;

interface Member {
  readonly settings: MemberSettings;
  readonly connected: ConnectedProvider;
}

interface MemberSettings {
  readonly config: ProviderConfig;
  readonly simulated: boolean;
  readonly transport: TransportOptions;
}

export function connectProviders(
  config: Pick<Config, "providers" | "requestTimeoutMs" | "allowPrivateAddresses">,
  simulated: SimulatedAddresses | undefined,
): ProviderSet {
  let members: ReadonlyMap<string, Member> = new Map();
  let all: readonly ConnectedProvider[] = [];
  let known: readonly string[] = [];
  const retiring = new Map<Transport, NodeJS.Timeout>();

  // A request that was routed before may ask for as long as it may live at all.
  const retire = (transport: Transport): void => {
    const timer = setTimeout(() => {
      const gone = (): boolean => retiring.delete(transport);
      // A drain that `close` overtakes is over, too.
      void transport.drain().then(gone, gone);
    }, config.requestTimeoutMs);
    timer.unref();
    retiring.set(transport, timer);
  };

  const replace: ProviderSet["replace"] = (providers, addresses) => {
    const before = members;
    members = new Map(
      providers.flatMap((provider): [string, Member][] => {
        const simulatedUrl = addresses?.[provider.name];
        if (simulatedUrl === undefined && !isConfigured(provider)) return [];
        const settings = settingsOf(provider, config.allowPrivateAddresses, simulatedUrl);
        return [[provider.name, memberOf(settings, before.get(provider.name))]];
      }),
    );
    all = [...members.values()].map(({ connected }) => connected);
    known = providers.map(({ name }) => name);
    const kept = new Set(all.map(({ transport }) => transport));
    for (const { connected } of before.values()) if (!kept.has(connected.transport)) retire(connected.transport);
    return [...before].flatMap(([name, { settings }]) =>
      isSameServer(settings, members.get(name)?.settings) ? [] : name,
    );
  };
  replace(config.providers, simulated);

  return {
    get all() {
      return all;
    },
    get known() {
      return known;
    },
    find: (name) => members.get(name)?.connected,
    replace,
    close: async () => {
      for (const timer of retiring.values()) clearTimeout(timer);
      const transports = [...retiring.keys(), ...all.map(({ transport }) => transport)];
      retiring.clear();
      await Promise.all(transports.map((transport) => transport.close()));
    },
  };
}

/** A provider by itself, beside any set. Whoever asked for it closes its transport. */
export const connectProvider = (
  provider: ProviderConfig,
  { allowPrivateAddresses }: Pick<Config, "allowPrivateAddresses">,
): ConnectedProvider => memberOf(settingsOf(provider, allowPrivateAddresses), undefined).connected;

function settingsOf(provider: ProviderConfig, allowPrivateAddresses: boolean, simulatedUrl?: string): MemberSettings {
  const config = simulatedUrl === undefined ? provider : { ...provider, apiKey: "simulated", baseUrl: simulatedUrl };
  // Connections are the models' in common, so the most patient one decides.
  const connectTimeoutMs = Math.max(
    provider.timeouts.connectMs,
    ...provider.models.map((model) => timeoutsIn(model.timeouts).connectMs ?? 0),
  );
  return {
    config,
    simulated: simulatedUrl !== undefined,
    transport: {
      provider: provider.name,
      origin: new URL(config.baseUrl).origin,
      connectTimeoutMs,
      maxConnections: Math.max(LEAST_CONNECTIONS, provider.maxInFlight),
      // The simulator is this process itself.
      allowPrivateAddresses: allowPrivateAddresses || simulatedUrl !== undefined,
    },
  };
}

/** Whoever is asked elsewhere or with another key may fare otherwise. */
const isSameServer = ({ config }: MemberSettings, now: MemberSettings | undefined): boolean =>
  now !== undefined && config.baseUrl === now.config.baseUrl && config.apiKey === now.config.apiKey;

function memberOf(settings: MemberSettings, before: Member | undefined): Member {
  if (before && isDeepStrictEqual(before.settings, settings)) return before;
  const { config, simulated } = settings;
  const transport =
    before && isDeepStrictEqual(before.settings.transport, settings.transport)
      ? before.connected.transport
      : createTransport(settings.transport);
  return {
    settings,
    connected: {
      provider: adapters[config.dialect]({ ...config, simulated }),
      transport,
      maxInFlight: config.maxInFlight,
      maxQueued: config.maxQueued,
      timeoutsOf: timeoutsByModel(config),
    },
  };
}

function timeoutsByModel({ timeouts, models }: ProviderConfig): ConnectedProvider["timeoutsOf"] {
  const own = new Map(models.map((model) => [model.id.toLowerCase(), timeoutsIn(model.timeouts)]));
  const thinking: TimeoutConfig = whileThinking(timeouts);
  return ({ id, reasons }) => {
    const wanted = own.get(id.toLowerCase());
    if (wanted === undefined) return reasons ? thinking : timeouts;
    const merged = { ...timeouts, ...wanted };
    return reasons ? { ...whileThinking(merged), ...wanted } : merged;
  };
}

/** An answer that does not stream takes at least as long as its first token. */
const whileThinking = (timeouts: TimeoutConfig): TimeoutConfig => ({
  ...timeouts,
  firstTokenMs: timeouts.thinkingFirstTokenMs,
  attemptMs: Math.max(timeouts.attemptMs, timeouts.thinkingFirstTokenMs),
});
