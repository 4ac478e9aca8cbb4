import { createHash } from 'node:crypto';
import { z } from 'zod';

const ruleSchema = z.object({
  id: z.string(),
  action: z.string(),
  connection: z.string(),
  title: z.string(),
  owner: z.string(),
  ticket: z.string().optional(),
  expires: z.string().optional(),
  file: z.string(),
  line: z.number(),
});

const headSchema = z.discriminatedUnion('kind', [
  z.object({
    v: z.literal(1),
    kind: z.literal('bundle'),
    sha256: z.string(),
    revision: z.string(),
    sequence: z.number(),
    catalog: z.array(ruleSchema),
  }),
  z.object({ v: z.literal(1), kind: z.literal('grants'), sha256: z.string() }),
]);

/** Something that decides and is kept so that its decisions can be made again. `sha256` is the content's, in hex. */
export type PolicyArtifact =
  | {
      readonly kind: 'bundle';
      readonly sha256: string;
      readonly revision: string;
      readonly sequence: number;
      /** Its rules; what the database tells those who may not read the content. */
      readonly catalog: readonly z.output<typeof ruleSchema>[];
      readonly content: Buffer;
    }
  | { readonly kind: 'grants'; readonly sha256: string; readonly content: Buffer };

const LINE_END = 0x0a;

/** File name of an artifact on the shelf. */
export const nameOf = ({ kind, sha256 }: Pick<PolicyArtifact, 'kind' | 'sha256'>): string =>
  `${kind}-${sha256}`;

/** What a file name on the shelf says; undefined for anything else that lies there. */
export const readName = (name: string): Pick<PolicyArtifact, 'kind' | 'sha256'> | undefined => {
  const found = /^(bundle|grants)-([0-9a-f]{64})$/.exec(name);
  return found === null ? undefined : { kind: found[1] as PolicyArtifact['kind'], sha256: found[2] ?? '' };
};

/** One line of JSON that says what it is, to be written before the content. */
export const headOf = (artifact: PolicyArtifact): string =>
  `${JSON.stringify({ v: 1, ...artifact, content: undefined })}\n`;

/** Reads a file of the shelf back; undefined when it is damaged. */
export const readArtifact = (bytes: Buffer): PolicyArtifact | undefined => {
  const end = bytes.indexOf(LINE_END);
  try {
    const head = headSchema.parse(JSON.parse(bytes.toString('utf8', 0, end)));
    const content = bytes.subarray(end + 1);
    const isWhole = createHash('sha256').update(content).digest('hex') === head.sha256;
    return isWhole ? { ...head, content } : undefined;
  } catch {
    return undefined;
  }
};
