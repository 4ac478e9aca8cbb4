import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { CatalogEntry } from '../bundle/bundle.ts';
import { runOpa } from './opa.ts';
import { bodyOf } from './rule-source.ts';
import { isTestFile, readLines } from './sources.ts';

const text = z.string().optional().catch(undefined);

const inspectionSchema = z.object({
  annotations: z
    .array(
      z.object({
        annotations: z.object({
          title: text,
          custom: z.record(z.string(), z.unknown()).optional(),
        }),
        location: z.object({ file: z.string(), row: z.number() }),
      }),
    )
    .nullish(),
});

/** The head of one rule of `sallyport.allow`, with what its METADATA says. */
export interface RuleHead {
  readonly file: string;
  /** 1-based line of the head. */
  readonly line: number;
  readonly action: CatalogEntry['action'];
  /** The connection it names; `*` for all, or for a head that computes it. */
  readonly connection: string;
  readonly title: string | undefined;
  /** The whole rule. */
  readonly text: string;
  /** Undefined when no METADATA block stands directly above. */
  readonly custom: Readonly<Record<string, unknown>> | undefined;
}

/** The sets of package `sallyport.allow` that the library asks. */
export const RULE_SETS = ['publish', 'stream', 'deny', 'limits'] as const;
const HEAD = /^(publish|stream|deny|limits)\s*(?:\[\s*(?:"([^"]*)"|[^\]]*)\s*\]|\.(\w+)|\b)/;
export const ALLOW_PACKAGE = /^package\s+sallyport\.allow\s*$/;

/** `opa inspect` cannot be told what to leave out: it is shown a copy of what a bundle is made of. */
const inspectSources = async (opa: string, directory: string, files: readonly string[]): Promise<string> => {
  const scratch = mkdtempSync(join(tmpdir(), 'sallyport-inspect-'));
  try {
    for (const file of files) {
      if (!isTestFile(file)) cpSync(join(directory, file), join(scratch, file));
    }
    return await runOpa(opa, ['inspect', '-a', '-f', 'json', '.'], scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** Every rule head of package `sallyport.allow`. @throws AppError ERR_POLICY_BUILD when OPA cannot parse */
export const readRuleHeads = async (
  opa: string,
  directory: string,
  files: readonly string[],
): Promise<RuleHead[]> => {
  const { annotations } = inspectionSchema.parse(JSON.parse(await inspectSources(opa, directory, files)));
  const found = new Map(
    (annotations ?? []).map((entry) => [
      `${entry.location.file}:${String(entry.location.row)}`,
      entry.annotations,
    ]),
  );
  return files.flatMap((file) => {
    const lines = readLines(directory, file);
    if (!lines.some((line) => ALLOW_PACKAGE.test(line))) return [];
    return lines.flatMap((line, index): RuleHead[] => {
      const head = HEAD.exec(line);
      if (head === null) return [];
      const said = found.get(`${file}:${String(index + 1)}`);
      return [
        {
          file,
          line: index + 1,
          action: head[1] as CatalogEntry['action'],
          connection: head[2] ?? head[3] ?? '*',
          text: bodyOf(lines, index),
          title: said?.title,
          custom: said?.custom,
        },
      ];
    });
  });
};

const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

/** The catalog of a bundle; rules without an id are the linter's to report and are left out. */
export const catalogOf = (heads: readonly RuleHead[]): CatalogEntry[] =>
  heads.flatMap(({ file, line, action, connection, title, custom }) => {
    const id = textOf(custom?.['id']);
    if (id === undefined) return [];
    const ticket = textOf(custom?.['ticket']);
    const expires = textOf(custom?.['expires']);
    return [
      {
        id,
        action,
        connection,
        title: title ?? '',
        owner: textOf(custom?.['owner']) ?? '',
        ...(ticket === undefined ? {} : { ticket }),
        ...(expires === undefined ? {} : { expires }),
        file,
        line,
      },
    ];
  });
