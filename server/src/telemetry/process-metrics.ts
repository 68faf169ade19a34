import { collectDefaultMetrics, type Registry } from "prom-client";

/** Memory, CPU, event-loop delay and garbage collection of this process. Once per process: its collectors stay. */
export const collectProcessMetrics = (registry: Registry): void => collectDefaultMetrics({ register: registry });
