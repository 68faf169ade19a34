import { randomUUID } from "node:crypto";

/** 32 random hexadecimal digits. */
export function hexIdentifier(): string {
  return randomUUID().replaceAll("-", "");
}
