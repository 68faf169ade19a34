import type { IncomingMessage } from "node:http";
import { cameByTls } from "./caller-address.ts";

/**
 * On every answer, errors and streams included. Answers hold completions, usage, keys or what tells of them, so nobody on the
 * way keeps one; none is a page, so a browser that is made to show one loads nothing for it and puts it in no frame. What is
 * meant to be kept or shown (the pages of /docs) says so itself.
 */
export const ANSWER_HEADERS: Readonly<Record<string, string>> = Object.freeze({
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cache-control": "no-store",
});

/** A year, and for this host alone: what its neighbours serve is not known here. Over plain HTTP it would mean nothing (RFC 6797 §7.2). */
const ANSWER_HEADERS_OVER_TLS: Readonly<Record<string, string>> = Object.freeze({
  ...ANSWER_HEADERS,
  "strict-transport-security": "max-age=31536000",
});

/** What a page of this server's own may do: load from here, and nothing else. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = Object.freeze({
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
});

export const securityHeaders = (raw: IncomingMessage, trustedProxies: number): Readonly<Record<string, string>> =>
  cameByTls(raw, trustedProxies) ? ANSWER_HEADERS_OVER_TLS : ANSWER_HEADERS;
