import canonicalize from 'canonicalize';

/** Version of the input document; a rule allows only when `input.v` is this. */
export const INPUT_VERSION = 1;

/** A party's credential as policy sees it; `auth_rule` and `slot` only where it is a shared access key. */
export interface PolicyKey {
  readonly kind: string;
  readonly id: string;
  /** Auth-rule name, `namespace/NAME` or `identity/NAME`; stable over rotation. */
  readonly principal: string;
  readonly auth_rule?: string;
  readonly slot?: string;
  readonly claims: readonly string[];
  /** `agent` only for an identity verified end to end inside the data link. */
  readonly proved_by: 'agent' | 'relay';
}

export interface PolicySource {
  readonly gateway: string;
  readonly gateway_proved: boolean;
  readonly address?: string;
  /** What the gateway says of its client; nobody vouches for it. */
  readonly claimed?: { readonly address?: string; readonly port?: number; readonly label?: string };
}

export interface PolicyTime {
  readonly unix_ms: number;
  /** UTC, whole seconds, `Z`: 20 characters. */
  readonly rfc3339: string;
  readonly local: {
    /** `YYYY-MM-DD` */
    readonly date: string;
    /** `mon` … `sun` */
    readonly weekday: string;
    readonly hour: number;
    readonly minute: number;
    /** IANA name */
    readonly zone: string;
  };
}

/**
 * Input v1 without `target.address`, which differs per candidate. Unknown is absent, never null.
 * `key`, `source`, `link` and `stream` are there for action `stream` only.
 */
export interface PolicyInputBase {
  readonly v: typeof INPUT_VERSION;
  readonly action: 'publish' | 'stream';
  readonly namespace: string;
  readonly connection: {
    readonly name: string;
    readonly id: string;
    readonly labels: Readonly<Record<string, string>>;
  };
  readonly target: { readonly host: string; readonly port: number; readonly addresses: readonly string[] };
  readonly key?: PolicyKey;
  readonly listener: PolicyKey;
  readonly source?: PolicySource;
  readonly agent: {
    readonly name: string;
    readonly instance: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly version: string;
  };
  readonly relay: { readonly node: string };
  readonly link?: { readonly id: string; readonly carrier: string };
  readonly stream?: {
    readonly id: string;
    readonly kind: string;
    readonly attempt: number;
    readonly parent?: string;
  };
  /** Older streams of this agent; a re-check never counts the stream itself. */
  readonly usage: {
    readonly principal?: { readonly streams: number };
    readonly connection: { readonly streams: number };
    readonly agent: { readonly streams: number };
  };
  readonly managed: { readonly sha256?: string; readonly require_proof: boolean };
  readonly time: PolicyTime;
}

/** Members that the streams of a link share by reference and nobody changes in place. */
const SHARED: ReadonlySet<string> = new Set([
  'connection',
  'key',
  'link',
  'listener',
  'local',
  'managed',
  'relay',
]);

/** In the order of RFC 8785 §3.2.3. */
const INPUT_NAMES = [
  'action',
  'agent',
  'connection',
  'key',
  'link',
  'listener',
  'managed',
  'namespace',
  'relay',
  'source',
  'stream',
  'target',
  'time',
  'usage',
  'v',
] as const satisfies readonly (keyof PolicyInputBase)[];
const TIME_NAMES = ['local', 'rfc3339', 'unix_ms'] as const satisfies readonly (keyof PolicyTime)[];

const sharedTexts = new WeakMap<object, string>();

const memberText = (name: string, value: unknown): string => {
  if (name === 'time') return membersText(value as PolicyTime, TIME_NAMES);
  if (!SHARED.has(name) || typeof value !== 'object' || value === null) return canonicalize(value) ?? 'null';
  const known = sharedTexts.get(value);
  if (known !== undefined) return known;
  const text = canonicalize(value) ?? 'null';
  sharedTexts.set(value, text);
  return text;
};

/** The object with these names only, in their order; any other object goes the long way. */
const membersText = <T extends object>(value: T, names: readonly (keyof T & string)[]): string => {
  const parts: string[] = [];
  for (const name of names) {
    const member = value[name];
    if (member !== undefined) parts.push(`"${name}":${memberText(name, member)}`);
  }
  const isWhole = parts.length === Object.values(value).filter((member) => member !== undefined).length;
  return isWhole ? `{${parts.join(',')}}` : (canonicalize(value) ?? '{}');
};

/**
 * The RFC 8785 form of an input: what is recorded, and what the engine is given after `JSON.parse`. The text of
 * what the streams of a link share (connection, keys, link, relay) is made once per object: those must never be changed
 * in place.
 * @throws Error on a lone surrogate or a number JSON lacks; text is made well-formed at decode, so that never happens
 */
export const canonicalInput = (base: PolicyInputBase): string => membersText(base, INPUT_NAMES);
