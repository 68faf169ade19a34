import { createHook } from "node:async_hooks";
import { getEventListeners } from "node:events";
import type { TestContext } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** What came to this process since, and is still there. */
export interface Leavings {
  /** Also those that would not keep the process alive. */
  readonly timers: number;
  readonly sockets: number;
  /** On signals that something still holds; those that go with their signal are nobody's burden. */
  readonly listeners: number;
}

/** Follows what is made from now on until the test ends. */
export function followLeavings(t: TestContext): { now(): Leavings } {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;

  const timers = new Set<number>();
  const hook = createHook({
    init: (id, type) => void (type === "Timeout" && timers.add(id)),
    destroy: (id) => void timers.delete(id),
  }).enable();

  const signals = new Set<WeakRef<AbortSignal>>();
  const known = new WeakSet<AbortSignal>();
  // oxlint-disable-next-line typescript/unbound-method -- put back as it was
  const { addEventListener } = EventTarget.prototype;
  EventTarget.prototype.addEventListener = function (this: EventTarget, ...args) {
    if (this instanceof AbortSignal && !known.has(this)) {
      known.add(this);
      signals.add(new WeakRef(this));
    }
    addEventListener.apply(this, args);
  };

  const sockets = (): number => process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length;
  const socketsBefore = sockets();

  t.after(() => {
    hook.disable();
    EventTarget.prototype.addEventListener = addEventListener;
  });
  return {
    now() {
      collectGarbage();
      let listeners = 0;
      for (const weak of signals) {
        const signal = weak.deref();
        if (signal) listeners += getEventListeners(signal, "abort").length;
        else signals.delete(weak);
      }
      return { timers: timers.size, sockets: sockets() - socketsBefore, listeners };
    },
  };
}
