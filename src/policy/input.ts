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
  /** The node's host, as the agent's configuration has it. */
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

/** One member of the input, as far as its shape is known. */
interface Member {
  readonly name: string;
  /** The streams of a link have it in common, by reference, and nobody changes it in place. */
  readonly shared?: boolean;
  /** Its own members; undefined: it can be anything. */
  readonly members?: readonly Member[];
}

const STREAMS: readonly Member[] = [{ name: 'streams' }];

/** In the order of RFC 8785 §3.2.3, at every level. */
const MEMBERS: readonly Member[] = [
  { name: 'action' },
  {
    name: 'agent',
    members: [{ name: 'instance' }, { name: 'labels', shared: true }, { name: 'name' }, { name: 'version' }],
  },
  { name: 'connection', shared: true },
  { name: 'key', shared: true },
  { name: 'link', shared: true },
  { name: 'listener', shared: true },
  { name: 'managed', shared: true },
  { name: 'namespace' },
  { name: 'relay', shared: true },
  {
    name: 'source',
    members: [
      { name: 'address' },
      { name: 'claimed', members: [{ name: 'address' }, { name: 'label' }, { name: 'port' }] },
      { name: 'gateway' },
      { name: 'gateway_proved' },
    ],
  },
  { name: 'stream', members: [{ name: 'attempt' }, { name: 'id' }, { name: 'kind' }, { name: 'parent' }] },
  { name: 'target', members: [{ name: 'addresses' }, { name: 'host' }, { name: 'port' }] },
  { name: 'time', members: [{ name: 'local', shared: true }, { name: 'rfc3339' }, { name: 'unix_ms' }] },
  {
    name: 'usage',
    members: [
      { name: 'agent', members: STREAMS },
      { name: 'connection', members: STREAMS },
      { name: 'principal', members: STREAMS },
    ],
  },
  { name: 'v' },
];

const sharedTexts = new WeakMap<object, string>();

const anyText = (value: unknown): string => canonicalize(value) ?? 'null';

const sharedText = (value: object): string => {
  const known = sharedTexts.get(value);
  if (known !== undefined) return known;
  const text = anyText(value);
  sharedTexts.set(value, text);
  return text;
};

const memberText = ({ shared, members }: Member, value: unknown): string => {
  if (typeof value === 'string') return value.isWellFormed() ? JSON.stringify(value) : anyText(value);
  if (typeof value !== 'object' || value === null) return anyText(value);
  if (shared === true) return sharedText(value);
  return members === undefined ? anyText(value) : membersText(value, members);
};

/** The object with these members only, in their order; any other object goes the long way. */
const membersText = (value: object, members: readonly Member[]): string => {
  const values = value as Readonly<Record<string, unknown>>;
  let text = '';
  let count = 0;
  for (const member of members) {
    const inner = values[member.name];
    if (inner === undefined) continue;
    text += `${count === 0 ? '' : ','}"${member.name}":${memberText(member, inner)}`;
    count += 1;
  }
  for (const name in values) if (values[name] !== undefined) count -= 1;
  return count === 0 ? `{${text}}` : anyText(value);
};

/**
 * The RFC 8785 form of an input: what is recorded, and what the engine is given after `JSON.parse`. The text of
 * what the streams of a link share (connection, keys, link, relay) is made once per object: those must never be changed
 * in place.
 * @throws Error on a lone surrogate or a number JSON lacks; text is made well-formed at decode, so that never happens
 */
export const canonicalInput = (base: PolicyInputBase): string => membersText(base, MEMBERS);
