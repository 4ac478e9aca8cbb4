import { z } from 'zod';
import { AppError, messageOf, readConfig } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { managedSchema } from '../managed-text.ts';

const ANSWER_MS = 5_000;

/** A bundle as agents name it. */
export const bundleSchema = z.object({ sha256: z.string(), revision: z.string(), sequence: z.number() });
const countsSchema = z.object({
  evaluated: z.number(),
  same: z.number(),
  otherwise: z.number(),
  would_deny: z.number(),
  would_allow: z.number(),
  errors: z.number(),
  dropped: z.number(),
  unwritten: z.number(),
});
const shadowSchema = z.object({
  state: z.string(),
  bundle: bundleSchema.extend({ signed_by: z.string().nullable() }).nullable(),
  since: z.string().nullable(),
  counts: countsSchema.nullable(),
  detail: z.string().nullable(),
});
const countsOfClosing = { atMs: z.number(), wouldClose: z.number(), live: z.number() };
const statusSchema = z.object({
  name: z.string(),
  managed: managedSchema,
  streams: z.object({ open: z.number() }),
  policy: z.object({
    active: bundleSchema
      .extend({ signedBy: z.string().optional(), generation: z.number(), activatedMs: z.number() })
      .extend({ grantsSha256: z.string().optional() })
      .optional(),
    held: bundleSchema.extend({ id: z.string(), ...countsOfClosing }).optional(),
    confirmed: z
      .object({
        id: z.string(),
        atMs: z.number(),
        counted: z.object({ wouldClose: z.number(), live: z.number() }).optional(),
        held: z.object(countsOfClosing),
      })
      .optional(),
    rejected: z.object({ atMs: z.number(), code: z.string(), message: z.string() }).optional(),
    grantsRejected: z.object({ atMs: z.number(), code: z.string(), message: z.string() }).optional(),
    grantsFile: z.string().optional(),
    withdrawn: z.object({ atMs: z.number(), message: z.string() }).optional(),
    shadow: shadowSchema,
    source: z.object({ kind: z.string() }).catchall(z.union([z.string(), z.number(), z.boolean(), z.null()])),
  }),
});
/** What an agent says of its policy. */
export type AgentPolicy = z.output<typeof statusSchema>;

/** Where the agent of an agent.yaml answers, and is asked. */
export interface AgentPlace {
  readonly statusUrl: string;
  readonly stateDir: string;
  /** Of agent.yaml; managed settings may name another. */
  readonly bundleFile: string | undefined;
}

/** The option of every command about one running agent. */
export interface AgentFile {
  readonly config: string;
}

/** @throws AppError as reading the configuration does */
export const agentOf = async (file: string): Promise<AgentPlace> => {
  const { agentConfigSchema } = await import('../../agent/index.ts');
  const config = await readConfig(file, agentConfigSchema);
  return {
    statusUrl: `http://${config.status.listen}/status`,
    stateDir: config.state_dir,
    bundleFile: config.policy.bundle_file,
  };
};

/** @throws AppError ERR_CLI_AGENT_UNREACHABLE */
export const askStatus = async ({ statusUrl }: AgentPlace): Promise<AgentPolicy> => {
  try {
    const response = await fetch(statusUrl, { signal: AbortSignal.timeout(ANSWER_MS) });
    return statusSchema.parse(await response.json());
  } catch (cause) {
    throw new AppError<CliErrorCode>(
      'ERR_CLI_AGENT_UNREACHABLE',
      `no agent answers at ${statusUrl}: ${messageOf(cause)}; run this where the agent runs`,
      { cause },
    );
  }
};
