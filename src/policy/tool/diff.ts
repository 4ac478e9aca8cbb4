import { isDeepStrictEqual } from 'node:util';
import canonicalize from 'canonicalize';
import { type Answer, askVector } from '../bundle/acceptance.ts';
import { type ArchiveFiles, readArchive } from '../bundle/archive.ts';
import { type Bundle, type CatalogEntry, readBundle, type Vector } from '../bundle/bundle.ts';
import { type BundleGrant, grantsOf } from './bundle-grants.ts';
import { withEngine } from './engine.ts';
import { ruleSource } from './rule-source.ts';
import { changedFields, shownAnswer, type ShownAnswer } from './test.ts';

/** What a change of the answer to one input is, the worst that is so. */
export type ChangeKind = 'newly_denied' | 'newly_allowed' | 'rule' | 'reasons' | 'obligations';

export interface AnswerChange {
  readonly kind: ChangeKind;
  /** The vector's name. */
  readonly name: string;
  /** Whose vector it is. */
  readonly of: 'a' | 'b' | 'both';
  /** Fields of the verdict that differ. */
  readonly fields: readonly string[];
  readonly a: ShownAnswer;
  readonly b: ShownAnswer;
}

/** A rule or grant that is in both and not the same; `conditions` stands for its body. */
export interface EntryChange<Entry> {
  readonly entry: Entry;
  readonly fields: readonly { readonly name: string; readonly a: unknown; readonly b: unknown }[];
}

export interface EntryChanges<Entry> {
  readonly added: readonly Entry[];
  readonly removed: readonly Entry[];
  readonly changed: readonly EntryChange<Entry>[];
}

export interface BundleDiff {
  readonly a: Pick<Bundle, 'sha256' | 'sequence' | 'revision'>;
  readonly b: Pick<Bundle, 'sha256' | 'sequence' | 'revision'>;
  /** Inputs that both were asked. */
  readonly inputs: number;
  readonly answers: readonly AnswerChange[];
  readonly rules: EntryChanges<CatalogEntry>;
  readonly grants: EntryChanges<BundleGrant>;
  /** Sources that differ, whatever of them is a rule. */
  readonly files: readonly string[];
}

interface Side {
  readonly bundle: Bundle;
  readonly files: ArchiveFiles;
}

const open = async (bytes: Buffer): Promise<Side> => ({
  bundle: await readBundle(bytes),
  files: await readArchive(bytes),
});

interface Asked {
  readonly vector: Pick<Vector, 'name' | 'input'>;
  of: AnswerChange['of'];
}

/** The vectors of both, one for each input. */
const inputsOf = (a: Bundle, b: Bundle): Asked[] => {
  const asked = new Map<string, Asked>();
  for (const vector of a.vectors) asked.set(canonicalize(vector.input) ?? '', { vector, of: 'a' });
  for (const vector of b.vectors) {
    const key = canonicalize(vector.input) ?? '';
    const known = asked.get(key);
    if (known === undefined) asked.set(key, { vector, of: 'b' });
    else if (known.of === 'a') known.of = 'both';
  }
  return [...asked.values()];
};

const allows = (answer: Answer): boolean => answer.ok && answer.verdict.allow;

/** What differs and matters: of two denials, why. What binds a stream matters where there is one. */
const fieldsOf = (a: Answer, b: Answer): string[] => {
  const fields = changedFields(a, b);
  if (allows(a) || allows(b) || fields.includes('error')) return fields;
  const [was, is] = [shownAnswer(a), shownAnswer(b)];
  return isDeepStrictEqual(was, is) ? [] : fields.filter((field) => field === 'reasons');
};

const kindOf = (a: Answer, b: Answer, fields: readonly string[]): ChangeKind => {
  if (allows(a) !== allows(b)) return allows(a) ? 'newly_denied' : 'newly_allowed';
  if (fields.includes('rule') || fields.includes('rules')) return 'rule';
  return fields.includes('obligations') || fields.includes('recheck_at') ? 'obligations' : 'reasons';
};

const compareAnswers = async (a: Bundle, b: Bundle): Promise<{ inputs: number; answers: AnswerChange[] }> => {
  const asked = inputsOf(a, b);
  const answers = await withEngine(a, (engineA) =>
    withEngine(b, async (engineB) => {
      const changes: AnswerChange[] = [];
      for (const { vector, of } of asked) {
        const [answerA, answerB] = [await askVector(engineA, vector), await askVector(engineB, vector)];
        const fields = fieldsOf(answerA, answerB);
        if (fields.length === 0) continue;
        changes.push({
          kind: kindOf(answerA, answerB, fields),
          name: vector.name,
          of,
          fields,
          a: shownAnswer(answerA),
          b: shownAnswer(answerB),
        });
      }
      return changes;
    }),
  );
  return { inputs: asked.length, answers };
};

type Fields = Readonly<Record<string, unknown>>;

const compareEntries = <Entry>(
  a: readonly Entry[],
  b: readonly Entry[],
  keyOf: (entry: Entry) => string,
  fieldsOf: (entry: Entry, side: 'a' | 'b') => Fields,
): EntryChanges<Entry> => {
  const before = new Map(a.map((entry) => [keyOf(entry), entry]));
  const after = new Map(b.map((entry) => [keyOf(entry), entry]));
  const changed = [...after].flatMap(([key, entry]): EntryChange<Entry>[] => {
    const old = before.get(key);
    if (old === undefined) return [];
    const [was, is] = [fieldsOf(old, 'a'), fieldsOf(entry, 'b')];
    const fields = [...new Set([...Object.keys(was), ...Object.keys(is)])]
      .filter((name) => !isDeepStrictEqual(was[name], is[name]))
      .map((name) => ({ name, a: was[name] ?? null, b: is[name] ?? null }));
    return fields.length === 0 ? [] : [{ entry, fields }];
  });
  return {
    added: [...after].filter(([key]) => !before.has(key)).map(([, entry]) => entry),
    removed: [...before].filter(([key]) => !after.has(key)).map(([, entry]) => entry),
    changed,
  };
};

/** What makes a rule: where it stands in its file does not. */
const ruleFields =
  (sides: Readonly<Record<'a' | 'b', Side>>) =>
  (entry: CatalogEntry, side: 'a' | 'b'): Fields => {
    const { action, connection, title, owner, ticket, expires } = entry;
    const source = ruleSource(sides[side].files, entry);
    const limits = source?.custom['limits'];
    return {
      action,
      connection,
      title,
      owner,
      ticket,
      expires,
      limits: limits === undefined ? undefined : JSON.stringify(limits),
      conditions: source?.text,
    };
  };

const sourcesOf = ({ files }: Side): Map<string, string> =>
  new Map(
    [...files]
      .filter(([name]) => name.endsWith('.rego'))
      .map(([name, content]) => [name, content.toString('utf8')]),
  );

const changedFiles = (a: Side, b: Side): string[] => {
  const [before, after] = [sourcesOf(a), sourcesOf(b)];
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names].filter((name) => before.get(name) !== after.get(name)).sort();
};

const named = ({ sha256, sequence, revision }: Bundle): BundleDiff['a'] => ({ sha256, sequence, revision });

/**
 * What would be different with bundle `b` in place of `a`: the answers to the vectors of both, rules, grants and sources.
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE, ERR_POLICY_BUILTIN, ERR_POLICY_ENGINE
 */
export const diffBundles = async (bytesA: Buffer, bytesB: Buffer): Promise<BundleDiff> => {
  const [a, b] = [await open(bytesA), await open(bytesB)];
  return {
    a: named(a.bundle),
    b: named(b.bundle),
    ...(await compareAnswers(a.bundle, b.bundle)),
    rules: compareEntries(a.bundle.catalog, b.bundle.catalog, ({ id }) => id, ruleFields({ a, b })),
    grants: compareEntries(
      grantsOf(a.bundle.dataText),
      grantsOf(b.bundle.dataText),
      ({ connection, principal, grant }) => JSON.stringify([connection, principal, grant.id]),
      ({ grant }) => grant,
    ),
    files: changedFiles(a, b),
  };
};
