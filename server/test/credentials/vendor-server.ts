import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

/** A provider that takes some keys and no others, and remembers with which it was asked for what. */
export interface VendorServer {
  readonly baseUrl: string;
  readonly accepted: Set<string>;
  readonly asked: { readonly path: string; readonly key: string | undefined }[];
  /** Answers in its place; undefined: it is itself. */
  instead: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
}

const ANSWER = {
  id: "chatcmpl-1",
  object: "chat.completion",
  created: 1,
  model: "gpt-4o-mini",
  choices: [{ index: 0, message: { role: "assistant", content: "Hello." }, finish_reason: "stop" }],
  usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 },
};

export async function startVendor(t: TestContext, ...accepted: string[]): Promise<VendorServer> {
  const server = createServer((request, response) => {
    request.resume();
    const key = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    vendor.asked.push({ path: request.url ?? "", key });
    if (vendor.instead) return vendor.instead(request, response);
    const refused = key === undefined || !vendor.accepted.has(key);
    response.writeHead(refused ? 401 : 200, { "content-type": "application/json" });
    // As vendors do, with a part of the key.
    if (refused) response.end(JSON.stringify({ error: { message: `Incorrect API key provided: ${key}` } }));
    else response.end(JSON.stringify(request.url === "/v1/models" ? { object: "list", data: [] } : ANSWER));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const vendor: VendorServer = {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    accepted: new Set(accepted),
    asked: [],
    instead: undefined,
  };
  return vendor;
}
