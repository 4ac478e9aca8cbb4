import type { Measurement } from './scenarios/scenario.ts';

/** Every run of one scenario over one tunnel. */
export interface Series {
  readonly tunnel: string;
  readonly runs: readonly Measurement[];
  /** Why it has no runs, if so. */
  readonly failure?: string;
}

export interface ScenarioResult {
  readonly name: string;
  readonly description: string;
  readonly headline: { readonly metric: string; readonly better: 'higher' | 'lower' };
  readonly series: readonly Series[];
}

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
};

/** The median of each metric over the runs. */
export const medianOf = (series: Series): Measurement => {
  const metrics = [...new Set(series.runs.flatMap((run) => Object.keys(run)))];
  return Object.fromEntries(
    metrics.map((metric) => [
      metric,
      median(series.runs.map((run) => run[metric]).filter((value) => value !== undefined)),
    ]),
  );
};

const number = (value: number | undefined): string => {
  if (value === undefined || Number.isNaN(value)) return '-';
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
};

const spread = (series: Series, metric: string): string => {
  const values = series.runs.map((run) => run[metric]).filter((value) => value !== undefined);
  return values.length < 2 ? '' : `${number(Math.min(...values))}…${number(Math.max(...values))}`;
};

/** One scenario as a Markdown table: a line per tunnel, the ratio to the reference, every metric's median. */
export const tableOf = (result: ScenarioResult, reference: string): string => {
  const { metric } = result.headline;
  const medians = new Map(result.series.map((series) => [series.tunnel, medianOf(series)]));
  const base = medians.get(reference)?.[metric];
  const others = [...new Set([...medians.values()].flatMap((value) => Object.keys(value)))].filter(
    (name) => name !== metric,
  );
  const head = ['', metric, 'min…max', `× ${reference}`, ...others];
  const lines = result.series.map((series) => {
    const value = medians.get(series.tunnel) ?? {};
    if (series.runs.length === 0) return [series.tunnel, series.failure ?? 'no run'];
    const own = value[metric];
    const ratio = base === undefined || own === undefined ? undefined : own / base;
    return [
      series.tunnel,
      number(own),
      spread(series, metric),
      number(ratio),
      ...others.map((name) => number(value[name])),
    ];
  });
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    `### ${result.name}: ${result.description}`,
    '',
    row(head),
    row(head.map(() => '---')),
    ...lines.map(row),
    '',
  ].join('\n');
};
