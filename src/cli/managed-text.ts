import { z } from 'zod';
import { counted } from './output.ts';

const settingsSchema = z.object({
  sha256: z.string(),
  connections: z.enum(['enabled', 'disabled']),
  require_proof: z.boolean(),
  relays: z.number().nullable(),
  designated: z.number().nullable(),
  bundle: z.string().nullable(),
  signing_keys: z.array(z.string()).nullable(),
  minimum_sequence: z.number().nullable(),
  audit_mode: z.string().nullable(),
});

/** Managed settings as an agent's `/status` has them. */
export const managedSchema = z.object({
  path: z.string(),
  state: z.enum(['absent', 'in_force', 'refused']),
  /** Since when what `state` says holds, RFC 3339; null where nothing is restricted. */
  since: z.string().nullable(),
  settings: settingsSchema.nullable(),
  bars: z.string().nullable(),
  awaiting_restart: z.array(z.string()),
  refused: z.object({ at: z.string(), code: z.string(), message: z.string() }).optional(),
});
export type Managed = z.output<typeof managedSchema>;

/** What settings narrow, in the order of docs/policy.md. */
const boundsOf = (settings: z.output<typeof settingsSchema>): string[] => [
  ...(settings.connections === 'disabled' ? ['connections disabled'] : []),
  ...(settings.relays === null ? [] : [counted(settings.relays, 'relay')]),
  ...(settings.designated === null ? [] : [counted(settings.designated, 'designated target')]),
  ...(settings.bundle === null ? [] : [`bundle ${settings.bundle}`]),
  ...(settings.signing_keys === null ? [] : [`signing keys ${settings.signing_keys.join(', ')}`]),
  ...(settings.minimum_sequence === null ? [] : [`minimum sequence ${String(settings.minimum_sequence)}`]),
  ...(settings.audit_mode === null ? [] : [`audit mode ${settings.audit_mode}`]),
  ...(settings.require_proof ? ['proof required'] : []),
];

/** The file, since when it holds and what it bounds; then what was refused. */
export const managedLines = (managed: Managed): string[] => {
  const { path, state, since, settings, bars, awaiting_restart: waiting, refused } = managed;
  if (state === 'absent') return [`no settings at ${path}: nothing is restricted by them`];
  const bounds = settings === null ? [] : boundsOf(settings);
  const restart = waiting.length === 0 ? '' : ` (with a restart: ${waiting.join(', ')})`;
  return [
    `settings of ${path}: ${state.replace('_', ' ')}${since === null ? '' : ` since ${since}`}${bars === null ? '' : `, everything is refused: ${bars}`}`,
    ...(settings === null
      ? []
      : [`bounds: ${bounds.length === 0 ? 'nothing' : bounds.join('; ')}${restart}`]),
    ...(refused === undefined ? [] : [`refused ${refused.at}: ${refused.message} (${refused.code})`]),
  ];
};
