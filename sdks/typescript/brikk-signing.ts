/**
 * Signs requests to a Brikk gateway: HTTP Message Signatures (RFC 9421, hmac-sha256) with Content-Digest (RFC 9530). One file
 * without dependencies, for anything that has `fetch` and WebCrypto: Node 20, Deno, Bun, workers. Copy it into your project.
 *
 *     const client = new OpenAI({
 *       baseURL: "https://brikk.example.com/v1",
 *       apiKey: process.env.BRIKK_API_KEY,
 *       fetch: signedFetch({ keyId: "bk_...", signingSecret: process.env.BRIKK_SIGNING_SECRET! }),
 *     });
 *
 * A signature is good for one request. Client libraries call `fetch` once for each attempt, so every retry is signed anew.
 */
export interface SigningOptions {
  /** The key's public id, `bk_` and 12 characters. */
  readonly keyId: string;
  /** `brikk_sig_` and 43 characters; shown once when the key was made. Belongs on a server, never in a page. */
  readonly signingSecret: string;
  /** Sends what was signed, in place of the global one. */
  readonly fetch?: typeof fetch;
  /** Milliseconds since the epoch, where the machine's clock is wrong. */
  readonly now?: () => number;
}

/** A `fetch` that signs what it sends. The body is read whole first, since its digest is signed. Throws for a secret of another form. */
export function signedFetch(options: SigningOptions): typeof fetch {
  const hmacKey = importSecret(options.signingSecret);
  // Whoever calls sees the rejection; before that nobody waits for it.
  hmacKey.catch(() => undefined);
  const send = options.fetch ?? fetch;
  return async (input, init) => {
    // The signal is only for the sending; a Request of its own would listen to it as well.
    const request = new Request(input, { ...init, signal: null });
    const body = new Uint8Array(await request.arrayBuffer());
    const headers = new Headers(request.headers);
    const signed = await signatureHeaders(
      { method: request.method, url: request.url, body },
      { keyId: options.keyId, hmacKey: await hmacKey, createdMs: (options.now ?? Date.now)(), nonce: newNonce() },
    );
    for (const [name, value] of Object.entries(signed)) headers.set(name, value);
    return send(request.url, {
      ...(input instanceof Request && { signal: input.signal }),
      ...init,
      method: request.method,
      headers,
      redirect: request.redirect,
      // A body that was a stream is bytes now.
      body: body.length > 0 ? body : null,
    });
  };
}

export interface RequestToSign {
  /** As it is sent: in upper case. */
  readonly method: string;
  readonly url: string;
  /** Empty: none. */
  readonly body: Uint8Array<ArrayBuffer>;
}

export interface Signer {
  readonly keyId: string;
  /** What `importSecret` makes of the signing secret. */
  readonly hmacKey: CryptoKey;
  readonly createdMs: number;
  /** 16 to 64 characters, new for each request. */
  readonly nonce: string;
}

/** The headers that make a request a signed one, for who does not use `signedFetch`. */
export async function signatureHeaders(request: RequestToSign, signer: Signer): Promise<Record<string, string>> {
  // What follows a # is never sent. A URL's own `search` is empty for a lone question mark, which is sent.
  const target = request.url.split("#", 1)[0] ?? "";
  const query = target.indexOf("?");
  const components: [name: string, value: string][] = [
    ["@method", request.method],
    ["@path", new URL(target).pathname],
  ];
  if (query !== -1) components.push(["@query", target.slice(query)]);
  const headers: Record<string, string> = {};
  if (request.body.length > 0) {
    const digest = `sha-256=:${base64(await crypto.subtle.digest("SHA-256", request.body))}:`;
    headers["content-digest"] = digest;
    components.push(["content-digest", digest]);
  }
  const created = Math.floor(signer.createdMs / 1000);
  const covered = components.map(([name]) => `"${name}"`).join(" ");
  const parameters = `(${covered});created=${created};nonce="${signer.nonce}";keyid="${signer.keyId}";alg="hmac-sha256"`;
  const base = [...components, ["@signature-params", parameters]]
    .map(([name, value]) => `"${name}": ${value}`)
    .join("\n");
  const signature = await crypto.subtle.sign("HMAC", signer.hmacKey, new TextEncoder().encode(base));
  return { ...headers, "signature-input": `brikk=${parameters}`, signature: `brikk=:${base64(signature)}:` };
}

/** Rejects for a text that is no signing secret, without repeating it. */
export async function importSecret(signingSecret: string): Promise<CryptoKey> {
  const encoded = /^brikk_sig_([0-9A-Za-z_-]{43})$/.exec(signingSecret)?.[1];
  if (encoded === undefined)
    throw new TypeError(
      "The signing secret is not of the form brikk_sig_ and 43 characters; the API key is another secret.",
    );
  const bytes = Uint8Array.from(atob(encoded.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
  return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

const newNonce = (): string => base64(crypto.getRandomValues(new Uint8Array(18)).buffer);

const base64 = (bytes: ArrayBuffer): string => btoa(String.fromCharCode(...new Uint8Array(bytes)));
