import {
  type Bounds,
  type Candidate,
  type Decision,
  decideWithin,
  type PolicyHost,
  type PolicyInputBase,
} from '../policy/index.ts';
import { formatHostPort } from '../runtime/index.ts';
import { type CloseReviewDeps, reviewClosing } from './close-review.ts';
import type { LiveStream } from './live-streams.ts';
import type { Publication } from './publication.ts';

/** Streams, and publications, named in one preview; the rest is counted. */
const MAX_LISTED = 1_000;

export interface ClosePreviewDeps {
  readonly host: Pick<PolicyHost, 'active' | 'openCandidate'>;
  readonly review: CloseReviewDeps;
  readonly published: () => readonly Publication[];
  readonly now: () => Pick<PolicyInputBase, 'time' | 'managed'>;
  readonly bounds: () => Bounds;
}

/** Why it would end: a code of the denial, or of the address in use where others are still allowed. */
const codeOf = (decision: Decision, addresses: readonly string[]): string => {
  if (!decision.allow) return decision.reasons[0]?.code ?? decision.reason ?? 'policy_denied';
  const denied = decision.candidates.find(
    ({ address, verdict }) => verdict !== 'allowed' && addresses.includes(address),
  );
  return denied?.reasons[0] ?? 'address_not_allowed';
};

const streamRow = (stream: LiveStream, code: string): object => {
  const { host, port } = stream.base.target;
  return {
    stream_id: stream.id,
    connection: stream.base.connection.name,
    principal: stream.base.key?.principal ?? null,
    target: formatHostPort({ host, port }),
    address: stream.addresses[0] ?? null,
    rule: stream.rule,
    opened_at: new Date(stream.openedAtMs).toISOString(),
    reason: code,
  };
};

const publicationRow = ({ node, credential, connection, decision }: Publication, code: string): object => ({
  connection: credential.connection,
  node,
  principal: credential.principal,
  target: connection === undefined ? null : formatHostPort(connection.target),
  rule: decision?.rule ?? null,
  reason: code,
});

/** Rows up to the limit, and how many there are of each reason. */
class Listing {
  readonly rows: object[] = [];
  readonly reasons: Record<string, number> = {};
  count = 0;

  add(code: string, row: () => object): void {
    this.count += 1;
    this.reasons[code] = (this.reasons[code] ?? 0) + 1;
    if (this.rows.length < MAX_LISTED) this.rows.push(row());
  }

  get cutOff(): number {
    return this.count - this.rows.length;
  }
}

const published = async (
  { published: all, now, bounds }: ClosePreviewDeps,
  candidate: Candidate,
): Promise<{ readonly live: number; readonly ending: Listing }> => {
  const ending = new Listing();
  const publications = all();
  for (const publication of publications) {
    const { decision } = publication;
    if (decision === undefined) continue;
    const base = JSON.parse(decision.input) as PolicyInputBase;
    const next = await decideWithin(candidate, { ...base, ...now() }, bounds(), 'recheck');
    if (!next.allow) ending.add(codeOf(next, []), () => publicationRow(publication, codeOf(next, [])));
  }
  return { live: publications.length, ending };
};

/**
 * What activating a bundle would end right now, by the code that looks at activations. Nothing is activated; the engine
 * it is asked in is its own and gone afterwards.
 * @throws AppError as opening a candidate does; whatever the signal was aborted with
 */
export const previewClosing = async (
  deps: ClosePreviewDeps,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<object> => {
  const candidate = await deps.host.openCandidate(bytes, signal);
  // Whatever is still asked then is answered at once.
  signal.addEventListener('abort', () => void candidate.close(), { once: true });
  try {
    const closing = new Listing();
    const { live, isHeld } = await reviewClosing(deps.review, candidate, (stream, closes, decision) => {
      if (!closes) return;
      const code = codeOf(decision, stream.addresses);
      closing.add(code, () => streamRow(stream, code));
    });
    const publications = await published(deps, candidate);
    signal.throwIfAborted();
    const { sha256, revision, sequence, signedBy } = candidate.active;
    const { active } = deps.host;
    return {
      bundle: { sha256, revision, sequence, signed_by: signedBy ?? null },
      active: active && { sha256: active.sha256, revision: active.revision, sequence: active.sequence },
      is_active: active?.sha256 === sha256,
      // Of its sequence alone; everything else that would keep it from being activated is an error.
      not_activatable: candidate.sequenceProblem ?? null,
      live,
      would_close: closing.count,
      would_hold: isHeld && active !== undefined,
      reasons: closing.reasons,
      streams: closing.rows,
      streams_cut_off: closing.cutOff,
      published: publications.live,
      would_unpublish: publications.ending.count,
      publications: publications.ending.rows,
      publications_cut_off: publications.ending.cutOff,
    };
  } finally {
    await candidate.close();
  }
};
