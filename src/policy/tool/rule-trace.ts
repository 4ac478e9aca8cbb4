import { z } from 'zod';
import { runOpa } from './opa.ts';
import { IGNORE_ARGS } from './sources.ts';

/** What became of one rule of an allow-list in one evaluation. */
export interface RuleTrace {
  readonly file: string;
  /** 1-based line of the head. */
  readonly line: number;
  readonly held: boolean;
  /** Where it failed, the condition furthest down that did; undefined when it held. */
  readonly failed: { readonly line: number; readonly column: number } | undefined;
}

const locationSchema = z.object({ file: z.string(), row: z.number(), col: z.number() });
const traceSchema = z.object({
  explanation: z.array(
    z.object({
      Op: z.string(),
      QueryID: z.number(),
      Location: locationSchema.nullish(),
    }),
  ),
});

const QUERY = 'data.sallyport.verdict.result';
const ALLOW_FOLDER = 'sallyport/allow/';

interface Entered {
  readonly file: string;
  readonly line: number;
  held: boolean;
  failed: { line: number; column: number } | undefined;
}

const isFurther = (a: { line: number; column: number }, b: Entered['failed']): boolean =>
  b === undefined || a.line > b.line || (a.line === b.line && a.column > b.column);

/**
 * Evaluates one input over sources with OPA, every rule tried (an index would leave out those that cannot match), and
 * tells of each rule of an allow-list that was asked whether it held or where it failed.
 * @param directory of sources, with the input in `inputFile`
 * @throws AppError ERR_POLICY_BUILD when OPA does not evaluate it
 */
export const traceRules = async (opa: string, directory: string, inputFile: string): Promise<RuleTrace[]> => {
  const args = ['eval', '-f', 'json', '--explain', 'full', '--disable-indexing', '-i', inputFile];
  const printed = await runOpa(opa, [...args, '-b', '.', ...IGNORE_ARGS, QUERY], directory);
  const { explanation } = traceSchema.parse(JSON.parse(printed));
  const entered = new Map<number, Entered>();
  for (const { Op, QueryID, Location } of explanation) {
    if (Location?.file.startsWith(ALLOW_FOLDER) !== true) continue;
    const { file, row: line, col: column } = Location;
    const known = entered.get(QueryID);
    if (Op === 'Enter' && known === undefined) {
      entered.set(QueryID, { file, line, held: false, failed: undefined });
    } else if (known !== undefined && Op === 'Exit') known.held = true;
    else if (known !== undefined && Op === 'Fail' && isFurther({ line, column }, known.failed)) {
      known.failed = { line, column };
    }
  }
  // A rule is asked again wherever its result is needed; it is told once, and held when it ever did.
  const rules = new Map<string, Entered>();
  for (const one of entered.values()) {
    const key = `${one.file}:${String(one.line)}`;
    const before = rules.get(key);
    if (before === undefined || one.held) rules.set(key, one);
  }
  return [...rules.values()].map(({ failed, ...rule }) => ({
    ...rule,
    failed: rule.held ? undefined : failed,
  }));
};
