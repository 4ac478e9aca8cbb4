import { isAbsolute, resolve } from 'node:path';
import { z } from 'zod';
import { bundleKeySchema } from '../bundle/key-schema.ts';
import { messageOf, parseConfig } from '../../runtime/index.ts';
import { hostName, parseDesignated } from './designated.ts';

/** Entries of `designated`; each is compared with every address that is decided about at its port. */
export const MAX_DESIGNATED = 1_000;
/** Relay hosts that may be listed. */
export const MAX_MANAGED_RELAYS = 256;
/** Keys that sign bundles: today's, and those that take over or give way. */
const MAX_SIGNING_KEYS = 16;
/** Longest host name (RFC 1035 §2.3.4). */
const MAX_HOST_LENGTH = 253;

const designatedSchema = z.string().superRefine((text, context) => {
  try {
    parseDesignated(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: messageOf(error) });
  }
});

const relaySchema = z
  .string()
  .min(1)
  .max(MAX_HOST_LENGTH)
  .refine((host) => /^[a-z0-9_.:-]+$/i.test(host), 'a host name or address, without a port')
  .transform(hostName);

const isHttps = (text: string): boolean => URL.canParse(text) && new URL(text).protocol === 'https:';

/** Where an agent's bundle must come from, whatever agent.yaml says. */
const bundleSchema = z
  .strictObject({
    file: z
      .string()
      .refine(isAbsolute, 'an absolute path')
      .transform((file) => resolve(file))
      .optional(),
    url: z.string().refine(isHttps, 'an https address').optional(),
  })
  .refine(({ file, url }) => (file === undefined) !== (url === undefined), 'give either file or url');

/** managed.yaml: what the administrator of a machine decides over every agent.yaml on it. Absent = not restricted. */
export const managedConfigSchema = z.strictObject({
  /** `disabled`: no stream, no data link, nothing published, no relay dialled. */
  connections: z.enum(['enabled', 'disabled']).default('enabled'),
  /** Hosts of the relay nodes that may be dialled; an empty list: none. */
  relays: z.array(relaySchema).max(MAX_MANAGED_RELAYS).optional(),
  /** `host:port` or `CIDR:port`: the targets that any bundle may allow; an empty list: none. */
  designated: z.array(designatedSchema).max(MAX_DESIGNATED).optional(),
  bundle: bundleSchema.optional(),
  /**
   * Only bundles signed by one of these decide; `require_signed: false` of agent.yaml is overridden. PEM in this file
   * itself: what another file says might be somebody else's word.
   */
  signing_keys: z
    .array(bundleKeySchema)
    .min(1)
    .max(MAX_SIGNING_KEYS)
    .refine((keys) => new Set(keys.map(({ id }) => id)).size === keys.length, 'each key needs its own id')
    .optional(),
  /** No bundle with a lower sequence decides. */
  minimum_sequence: z.int().nonnegative().optional(),
  audit_mode: z.enum(['enforced', 'best_effort']).optional(),
  /** Both keys of a stream must be identities that the agent itself verified. */
  require_proof: z.boolean().default(false),
});

export type ManagedConfig = z.infer<typeof managedConfigSchema>;

/**
 * Reads the text of managed.yaml. It stands for itself: neither the environment of a process nor another file can
 * change what it says.
 * @throws ConfigError with every problem at once
 */
export const parseManaged = (text: string, file: string): ManagedConfig =>
  parseConfig(text, file, managedConfigSchema, { isSelfContained: true });
