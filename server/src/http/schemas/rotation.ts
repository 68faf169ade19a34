import { z } from "zod";
import type { Rotation } from "../../access/key-store.ts";

export const rotationAnswer = z
  .object({
    key_id: z.string().describe("As before: caps, limits, usage and budgets go on."),
    old_key_prefix: z.string(),
    new_key: z.string().describe("Shown this once."),
    rotated_at: z.string(),
    old_key_valid_until: z.string().describe("The first moment at which the old secret is no longer accepted (UTC)."),
  })
  .meta({
    id: "Rotation",
    example: {
      key_id: "bk_Example00001",
      old_key_prefix: "brikk_aB3dE5",
      new_key: "brikk_...",
      rotated_at: "2026-11-23T09:00:00.000Z",
      old_key_valid_until: "2026-11-23T10:00:00.000Z",
    },
  });

/** A rotation as JSON shows it. */
export const shownRotation = (rotation: Rotation): z.infer<typeof rotationAnswer> => ({
  key_id: rotation.key.id,
  old_key_prefix: rotation.oldKeyPrefix,
  new_key: rotation.secret,
  rotated_at: new Date(rotation.rotatedAtMs).toISOString(),
  old_key_valid_until: new Date(rotation.oldValidUntilMs).toISOString(),
});
