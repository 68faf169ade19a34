import { createHmac, hash } from "node:crypto";
import { bytesOf } from "../../src/access/signing-secret.ts";

/** A request of which a test signs what it wants, and then changes what it wants. Built by hand from RFC 9421, with nothing of the source's. */
export interface TestRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

export interface TestSignature {
  readonly keyId: string;
  readonly signingSecret: string;
  readonly createdS: number;
  readonly nonce?: string;
  /** In place of what is due. */
  readonly components?: readonly string[];
  /** In place of created, nonce, keyid and alg. */
  readonly parameters?: string;
  readonly label?: string;
}

let nonces = 0;
export const newNonce = (): string => `nonce-of-a-test-${++nonces}`;

export const digestOf = (body: string | Uint8Array, algorithm: "sha-256" | "sha-512" = "sha-256"): string =>
  `${algorithm}=:${hash(algorithm.replace("-", ""), body, "base64")}:`;

/** The two headers of a signature over the request as it is. */
export function sign(request: TestRequest, options: TestSignature): [name: string, value: string][] {
  const { label = "sig" } = options;
  const has = (name: string): boolean => request.headers.some(([header]) => header.toLowerCase() === name);
  const {
    components = [
      "@method",
      "@path",
      ...(request.url.includes("?") ? ["@query"] : []),
      ...(has("content-digest") ? ["content-digest"] : []),
    ],
    parameters = parametersOf(options),
  } = options;
  const list = `(${components.map((name) => `"${name}"`).join(" ")})${parameters}`;
  const lines = [...components.map((name) => `"${name}": ${valueOf(request, name)}`), `"@signature-params": ${list}`];
  const signature = createHmac("sha256", bytesOf(options.signingSecret)!).update(lines.join("\n")).digest("base64");
  return [
    ["Signature-Input", `${label}=${list}`],
    ["Signature", `${label}=:${signature}:`],
  ];
}

export const parametersOf = ({ createdS, keyId, nonce = newNonce() }: TestSignature): string =>
  `;created=${createdS};nonce="${nonce}";keyid="${keyId}";alg="hmac-sha256"`;

function valueOf({ method, url, headers }: TestRequest, component: string): string {
  const question = url.indexOf("?");
  switch (component) {
    case "@method":
      return method;
    case "@path":
      return question === -1 ? url : url.slice(0, question);
    case "@query":
      return question === -1 ? "?" : url.slice(question);
    default: {
      const name = component === "@authority" ? "host" : component;
      const values = headers.filter(([header]) => header.toLowerCase() === name).map(([, value]) => value.trim());
      return component === "@authority" ? values.join(", ").toLowerCase() : values.join(", ");
    }
  }
}
