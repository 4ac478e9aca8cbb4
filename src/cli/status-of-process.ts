import { z } from 'zod';
import { heldMeans } from './held-text.ts';
import { managedSchema } from './managed-text.ts';

/** How long a process may take to tell its state. */
const ANSWER_MS = 2_000;
const MIB = 1024 * 1024;
const DIGEST_DIGITS = 12;

/** A data link as a process has it; those of before carriers had ports tell none. */
const linkSchema = z.object({ node: z.string(), carrier: z.string(), port: z.number().optional() });

const refusedSchema = z.object({ atMs: z.number(), message: z.string() });

/** What `/status` of an agent or gateway has that `sallyport status` shows; others have less of it. */
const processSchema = z.object({
  logins: z.array(
    z.object({
      node: z.string(),
      state: z.string(),
      detail: z.string().optional(),
      port: z.number().optional(),
    }),
  ),
  links: z.array(linkSchema).default([]),
  connections: z.array(z.object({ links: z.array(linkSchema).default([]) })).default([]),
  targets: z
    .array(
      z.object({
        connection: z.string(),
        state: z.string(),
        since: z.string().nullable(),
        checked_by: z.string().nullable(),
        address: z.string().nullable(),
        connect_ms: z.number().nullable(),
        detail: z.string().nullable(),
      }),
    )
    .default([]),
  managed: managedSchema.optional(),
  audit: z
    .object({
      spool: z.string(),
      spool_bytes: z.number(),
      max_spool_bytes: z.number(),
      database: z.string(),
      database_error: z.string().optional(),
      unacknowledged_batches: z.number(),
      oldest_unacknowledged_seconds: z.number(),
    })
    .optional(),
  policy: z
    .object({
      active: z
        .object({
          sha256: z.string(),
          revision: z.string(),
          sequence: z.number(),
          signedBy: z.string().optional(),
        })
        .optional(),
      held: z
        .object({ sha256: z.string(), sequence: z.number(), wouldClose: z.number(), live: z.number() })
        .optional(),
      rejected: refusedSchema.optional(),
      grantsRejected: refusedSchema.optional(),
    })
    .optional(),
});
export type ProcessStatus = z.output<typeof processSchema>;

/** What a process tells; null when it does not answer, which its readiness says. */
export const processStatusOf = async (statusUrl: string): Promise<ProcessStatus | null> => {
  try {
    const response = await fetch(`${statusUrl}/status`, { signal: AbortSignal.timeout(ANSWER_MS) });
    return processSchema.parse(await response.json());
  } catch {
    return null;
  }
};

const at = (node: string, port: number | undefined): string =>
  port === undefined ? node : `${node}:${String(port)}`;

const loginText = ({ node, state, port, detail }: ProcessStatus['logins'][number]): string =>
  `${at(node, port)} ${state}${detail === undefined ? '' : ` (${detail})`}`;

/** `2 tcp to relay.example.com:9352` */
const linksText = (status: ProcessStatus): string => {
  const counts = new Map<string, number>();
  for (const { node, carrier, port } of [
    ...status.links,
    ...status.connections.flatMap((one) => one.links),
  ]) {
    const way = `${carrier} to ${at(node, port)}`;
    counts.set(way, (counts.get(way) ?? 0) + 1);
  }
  return counts.size === 0 ? 'none' : [...counts].map(([way, count]) => `${String(count)} ${way}`).join(', ');
};

const auditText = (audit: NonNullable<ProcessStatus['audit']>): string => {
  const lag =
    audit.unacknowledged_batches === 0
      ? 'nothing waits'
      : `${String(audit.unacknowledged_batches)} batches wait, the oldest for ${String(Math.round(audit.oldest_unacknowledged_seconds))} s`;
  const why = audit.database_error === undefined ? '' : ` (${audit.database_error})`;
  const mib = (bytes: number): string => String(Math.ceil(bytes / MIB));
  return `database ${audit.database}${why}, ${lag}; spool ${audit.spool}, ${mib(audit.spool_bytes)} of ${mib(audit.max_spool_bytes)} MiB`;
};

const bundleText = ({ active }: NonNullable<ProcessStatus['policy']>): string =>
  active === undefined
    ? 'none: everything is denied'
    : `sequence ${String(active.sequence)}, revision ${JSON.stringify(active.revision)}, sha256 ${active.sha256.slice(0, DIGEST_DIGITS)}, ${active.signedBy === undefined ? 'unsigned' : `signed by ${active.signedBy}`}`;

/** What keeps the newest bundle or grants file from deciding. */
const policyLines = ({
  active,
  held,
  rejected,
  grantsRejected,
}: NonNullable<ProcessStatus['policy']>): string[] => [
  ...(held === undefined
    ? []
    : [
        `held: sequence ${String(held.sequence)} would close ${String(held.wouldClose)} of ${String(held.live)} live streams; ${heldMeans(held, active)}; confirm it by \`sallyport policy activate\``,
      ]),
  ...[rejected, grantsRejected].flatMap((one) =>
    one === undefined ? [] : [`refused: ${new Date(one.atMs).toISOString()}: ${one.message}`],
  ),
];

/** What the latest dial of each target came to; those that nobody has dialled are not shown. */
const targetLines = ({ targets }: ProcessStatus): string[] =>
  targets
    .filter(({ state }) => state !== 'unknown')
    .map(({ connection, state, since, checked_by, address, connect_ms, detail }) => {
      const found =
        state === 'reachable'
          ? `${address ?? ''} took the latest connection in ${String(connect_ms ?? 0)} ms`
          : (detail ?? 'no reason told');
      return `target of ${connection}: ${state} since ${since ?? 'unknown'}: ${found} (${checked_by ?? 'nobody'})`;
    });

/** Lines below a process: where it is logged in, over which carriers and ports, which targets answer, what decides, what the audit waits for. */
export const processLines = (status: ProcessStatus): string[] => [
  `logins: ${status.logins.map(loginText).join(', ')}`,
  `links: ${linksText(status)}`,
  ...targetLines(status),
  ...(status.policy === undefined
    ? []
    : [`bundle: ${bundleText(status.policy)}`, ...policyLines(status.policy)]),
  ...(status.audit === undefined ? [] : [`audit: ${auditText(status.audit)}`]),
];
