import { createHash } from 'node:crypto';
import { type AuditReader, type DecisionEvent, readKeptContent } from '../../audit/index.ts';
import { type DecidingPolicy, readGrants } from '../../policy/index.ts';
import { readBundleFile } from '../policy/bundle-argument.ts';

/** Files that stand in for what the database does not have, or does not show to this login. */
export interface PolicyFiles {
  readonly bundle?: string;
  readonly grants?: string;
}

/** What decided, or why it is not to be had. */
export type FoundPolicy = DecidingPolicy | { readonly missing: string };

type Content = { readonly content: Buffer } | { readonly missing: string };

const WORDS = { bundle: 'bundle', grants: 'grants file' } as const;

const contentOf = async (
  reader: AuditReader,
  kind: keyof typeof WORDS,
  sha256: string,
  file: string | undefined,
): Promise<Content> => {
  if (file !== undefined) {
    // Grants are recorded as the engine has them, however their file is written.
    const bytes = readBundleFile(file);
    const content = kind === 'bundle' ? bytes : Buffer.from(readGrants(bytes));
    const actual = createHash('sha256').update(content).digest('hex');
    if (actual === sha256) return { content };
    return {
      missing: `${file} is not the ${WORDS[kind]} that decided: its digest is ${actual}, the event says ${sha256}`,
    };
  }
  const kept = await readKeptContent(reader, kind, sha256);
  if (kept.kind === 'found') return kept;
  if (kept.kind === 'absent') {
    return {
      missing: `the database does not have the ${WORDS[kind]} ${sha256}; give it with --${kind} FILE`,
    };
  }
  return {
    missing: `the database's ${WORDS[kind]} ${sha256} was altered: the digest of what it holds is ${kept.sha256}`,
  };
};

/**
 * The bundle and grants that an event names, from the database or from files; they count only under the digests that
 * the event has.
 * @throws AppError ERR_CLI_USAGE, ERR_AUDIT_QUERY_FAILED, ERR_POLICY_GRANTS
 */
export const findPolicy = async (
  reader: AuditReader,
  { data }: DecisionEvent,
  files: PolicyFiles,
): Promise<FoundPolicy> => {
  if (data.bundle === undefined) return { missing: 'the event names no bundle' };
  const { sha256, grants_sha256: grantsSha256 } = data.bundle;
  const bundle = await contentOf(reader, 'bundle', sha256, files.bundle);
  if ('missing' in bundle) return bundle;
  if (grantsSha256 === undefined) return { bundle: bundle.content, grantsText: undefined };
  const grants = await contentOf(reader, 'grants', grantsSha256, files.grants);
  if ('missing' in grants) return grants;
  return { bundle: bundle.content, grantsText: grants.content.toString('utf8') };
};
