import type { Gateway } from "./gateway.ts";

/** What a person needs in the first minute, and nothing else. */
export function bannerOf({
  version,
  address,
  gateway,
  databasePlace,
  warnings,
}: {
  version: string;
  address: string;
  gateway: Gateway;
  databasePlace: string;
  warnings: readonly string[];
}): string {
  const { providers, config } = gateway;
  const real = providers.all.filter(({ provider }) => !provider.simulated).map(({ provider }) => provider.name);
  const simulated = providers.all.filter(({ provider }) => provider.simulated).map(({ provider }) => provider.name);
  const standing = [
    ...(real.length > 0 ? [`${real.join(", ")} (real)`] : []),
    ...(simulated.length > 0
      ? [`${simulated.join(", ")} (SIMULATED: no provider key is set, answers are made up)`]
      : []),
  ];
  const url = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
  const credentials = config.requireAuth ? ` -H "Authorization: Bearer $BRIKK_KEY"` : "";
  const model = providers.all[0]?.provider.defaultModel ?? "";
  return `
  Brikk ${version}   ${url}
  API docs     ${url}/docs
  Providers    ${standing.join("; ") || "NONE CAN BE ASKED: their stored credentials cannot be opened, see the log"}
  Data         ${databasePlace}
  Keys         ${config.requireAuth ? "required; make one with: npm run -s brikk -- keys create --name me" : "not required; callers without one share a capped key"}
${warnings.map((sentence) => `  WARNING      ${sentence}\n`).join("")}
  Try it:
  curl -sN ${url}/v1/chat/completions${credentials} -H "Content-Type: application/json" -d '{"model":"${model}","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Why is the sky blue?"}]}'
`;
}
