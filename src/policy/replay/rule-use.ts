import { type Bundle, readBundle } from '../bundle/bundle.ts';
import { grantsOf } from '../tool/bundle-grants.ts';
import type { PastDecision } from './recorded.ts';

/** A rule or grant of a bundle, with what recorded decisions say of it. */
export interface RuleUse {
  readonly id: string;
  readonly kind: 'publish' | 'stream' | 'deny' | 'grant';
  readonly connection: string;
  /** Of a grant. */
  readonly principal: string | null;
  readonly owner: string;
  readonly expires: string | null;
  /** `FILE:LINE` of a rule in the policy directory. */
  readonly source: string | null;
  readonly decisions: number;
  /** RFC 3339; null when never. */
  readonly last_at: string | null;
}

export interface RuleUseReport {
  readonly rules: readonly RuleUse[];
  /** Ids that decisions name and the bundle does not have: rules since removed. */
  readonly elsewhere: readonly {
    readonly id: string;
    readonly decisions: number;
    readonly last_at: string;
  }[];
}

interface Seen {
  decisions: number;
  lastAt: string;
}

const DENY_CODE = 'policy:';

/** Counts which rules and grants took part in recorded decisions. */
export class RuleUseCount {
  readonly #seen = new Map<string, Seen>();

  /** An allow counts for every rule that was live for it, publish rules included; a denial for the deny rules it names. */
  add({ allow, rules, reasons, count, at }: PastDecision): void {
    const ids = allow
      ? [...rules.publish, ...rules.stream]
      : reasons.filter((code) => code.startsWith(DENY_CODE)).map((code) => code.slice(DENY_CODE.length));
    for (const id of new Set(ids)) {
      const seen = this.#seen.get(id);
      if (seen === undefined) this.#seen.set(id, { decisions: count, lastAt: at });
      else {
        seen.decisions += count;
        if (at > seen.lastAt) seen.lastAt = at;
      }
    }
  }

  /**
   * What of a bundle was used. Limits are left out: they decide nothing, and no decision names them.
   * @param grantsText JSON of grants that take the place of the bundle's
   * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE
   */
  async report(bytes: Buffer, grantsText?: string): Promise<RuleUseReport> {
    const bundle = await readBundle(bytes);
    const known = new Set<string>();
    const use = (id: string): Pick<RuleUse, 'decisions' | 'last_at'> => {
      known.add(id);
      const seen = this.#seen.get(id);
      return { decisions: seen?.decisions ?? 0, last_at: seen?.lastAt ?? null };
    };
    const rules = [...catalogOf(bundle), ...grantsIn(dataOf(bundle, grantsText))].map((rule) => ({
      ...rule,
      ...use(rule.id),
    }));
    const elsewhere = [...this.#seen]
      .filter(([id]) => !known.has(id))
      .map(([id, { decisions, lastAt }]) => ({ id, decisions, last_at: lastAt }));
    return { rules, elsewhere };
  }
}

type RuleOf = Omit<RuleUse, 'decisions' | 'last_at'>;

const catalogOf = ({ catalog }: Bundle): RuleOf[] =>
  catalog.flatMap(({ id, action, connection, owner, expires, file, line }) =>
    action === 'limits'
      ? []
      : [
          {
            ...{ id, connection, owner },
            kind: action,
            principal: null,
            expires: expires ?? null,
            source: `${file}:${String(line)}`,
          },
        ],
  );

const dataOf = ({ dataText }: Bundle, grantsText: string | undefined): string =>
  grantsText === undefined ? dataText : `{"sallyport":{"grants":${grantsText}}}`;

const grantsIn = (dataText: string): RuleOf[] =>
  grantsOf(dataText).map(({ connection, principal, grant }) => ({
    id: grant.id,
    kind: 'grant',
    connection,
    principal,
    owner: grant.owner,
    expires: grant.expires,
    source: null,
  }));
