import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Check } from "./check.ts";
import { readIfThere } from "./repository.ts";
import { RESILIENCE_PAGE, renderResiliencePage } from "./resilience-page.ts";

/** A file that is written from the source and never by hand. */
export interface GeneratedFile {
  readonly path: string;
  readonly render: () => Promise<string>;
}

// The source is imported when a file is rendered: a fault in it then fails that one check and not all of them.
export const generatedFiles: readonly GeneratedFile[] = [
  { path: "openapi/openapi.json", render: renderApiDocument },
  { path: "docs/errors.md", render: renderErrorPage },
  { path: RESILIENCE_PAGE, render: renderResiliencePage },
  { path: ".env.example", render: renderEnvironmentExample },
];

export const generatedFilesCurrent: readonly Check[] = generatedFiles.map(({ path, render }) => ({
  name: `${path} is current`,
  findFaults: async () => {
    const written = readIfThere(path);
    if (written === (await render())) return [];
    return [
      `${path} ${written === undefined ? "is missing" : "is not what the source says"}; npm run openapi writes it.`,
    ];
  },
}));

/** The document of an app with every route, which listens to nobody and calls no provider. */
async function renderApiDocument(): Promise<string> {
  const [{ buildApp }, { loadConfig }, { buildGateway }, { openDatabase }, { createLogger }] = await Promise.all([
    import("../../server/src/app.ts"),
    import("../../server/src/config.ts"),
    import("../../server/src/gateway.ts"),
    import("../../server/src/storage/open-database.ts"),
    import("../../server/src/telemetry/log.ts"),
  ]);
  const manifest = JSON.parse(readIfThere("server/package.json") ?? "") as { version: string };
  const folder = mkdtempSync(join(tmpdir(), "brikk-openapi-"));
  try {
    const config = loadConfig({
      PORT: "0",
      DATABASE_URL: `sqlite:${join(folder, "brikk.db")}`,
      LOG_LEVEL: "silent",
      // Without one the routes for administrators are not there.
      BRIKK_ADMIN_TOKEN: "of-nobody-anywhere",
    });
    const database = await openDatabase({ url: config.databaseUrl });
    const gateway = await buildGateway({
      config,
      version: manifest.version,
      logger: createLogger({ level: config.logLevel, pretty: false }),
      database,
      // Port 9 discards what it gets; nothing is sent there.
      simulated: Object.fromEntries(config.providers.map(({ name }) => [name, "http://127.0.0.1:9"])),
    });
    const app = await buildApp(gateway);
    await app.ready();
    const document = `${JSON.stringify(app.swagger(), undefined, 2)}\n`;
    await app.close();
    await gateway.close();
    await database.close();
    return document;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function renderErrorPage(): Promise<string> {
  const { errorTable } = await import("../../server/src/errors.ts");
  const rows = Object.entries(errorTable).map(
    ([code, { status, type, retryable, meaning }]) =>
      `| \`${code}\` | ${status} | \`${type}\` | ${retryable ? "yes" : "no"} | ${meaning} |`,
  );
  return `# Errors

Written by \`npm run openapi\` from \`server/src/errors.ts\`; do not edit.

Every error has one shape, OpenAI's: \`{"error": {"message", "type", "code", "param", "request_id", "details"}}\`. \`code\` is
stable and meant for programs; \`message\` is for people. "Again" says whether trying again can help: where it cannot, the
answer carries \`x-should-retry: false\`; where the wait is known, it carries \`Retry-After\`. A mistake of the caller's own that
the provider reports keeps the provider's status, type and code, which are then not in this table.

| code | status | type | again | what it means |
| --- | --- | --- | --- | --- |
${rows.join("\n")}
`;
}

async function renderEnvironmentExample(): Promise<string> {
  const { settings } = await import("../../server/src/config/settings.ts");
  const entries = settings.map(({ name, fallback, meaning }) => {
    const note = fallback === undefined ? "Not set by default." : "The default is shown.";
    return `# ${meaning[0]?.toUpperCase()}${meaning.slice(1)}. ${note}\n#${name}=${fallback ?? ""}`;
  });
  return `# Every setting of Brikk. Copy this file to .env and take the # away from what you set.
# Written by npm run openapi from server/src/config/settings.ts; do not edit.

${entries.join("\n\n")}
`;
}
