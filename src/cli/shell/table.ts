import { type CommandShape, flatten, type OptionShape } from './shape.ts';

export interface Candidate {
  readonly word: string;
  readonly description: string;
}

/** What may be typed behind one command. */
export interface Place {
  /** The words of the command, each after a space: ` agent install`; empty for the program. */
  readonly path: string;
  /** Offered while no option is begun: commands and choices; where there is neither, nor a path, the options. */
  readonly words: readonly Candidate[];
  readonly options: readonly Candidate[];
  /** Whether a file may stand there. */
  readonly takesPath: boolean;
  /** ` agent install --config`: options that take a value, and what that may be. */
  readonly valued: readonly {
    readonly key: string;
    readonly isPath: boolean;
    readonly choices: readonly string[];
  }[];
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();

const optionCandidates = (options: readonly OptionShape[]): Candidate[] =>
  options.flatMap(({ words, description }) =>
    words.map((word) => ({ word, description: oneLine(description) })),
  );

/** All places of the program; options of a command are taken below it too, as commander does. */
export const placesOf = (program: CommandShape): Place[] => {
  const all = flatten(program);
  return all.map((shape) => {
    const above = all.filter(
      ({ path }) => path.length < shape.path.length && path.every((word, at) => word === shape.path[at]),
    );
    const own = new Set(shape.options.flatMap(({ words }) => words));
    // The version is the program's own; what is declared nearer counts.
    const inherited = above
      .flatMap(({ options }) => options)
      .filter(({ words }) => !words.includes('--version') && words.every((word) => !own.has(word)));
    const options = [...shape.options, ...inherited];
    const path = shape.path.map((word) => ` ${word}`).join('');
    const words = [
      ...shape.commands.map(({ path: typed, summary }) => ({
        word: typed.at(-1) ?? '',
        description: oneLine(summary),
      })),
      ...shape.arguments.flatMap(({ choices }) => choices.map((word) => ({ word, description: '' }))),
    ];
    const takesPath = shape.arguments.some(({ isPath }) => isPath);
    return {
      path,
      words: words.length > 0 || takesPath ? words : optionCandidates(options),
      options: optionCandidates(options),
      takesPath,
      valued: options.flatMap(({ words, value }) =>
        value === undefined ? [] : words.map((word) => ({ key: `${path} ${word}`, ...value })),
      ),
    };
  });
};

/** Options that take a value, by what completes it. */
export const valuesIn = (
  places: readonly Place[],
): Readonly<Record<'all' | 'paths' | 'free', readonly string[]>> & { readonly chosen: Place['valued'] } => {
  const valued = places.flatMap((place) => place.valued);
  const keys = (of: Place['valued']): string[] => of.map(({ key }) => key);
  return {
    all: keys(valued),
    paths: keys(valued.filter(({ isPath }) => isPath)),
    chosen: valued.filter(({ choices }) => choices.length > 0),
    free: keys(valued.filter(({ isPath, choices }) => !isPath && choices.length === 0)),
  };
};

/** `'one'|'two'`: alternatives of a `case`, quoted for bash and zsh. */
export const alternatives = (keys: readonly string[]): string => keys.map((key) => `'${key}'`).join('|');

/** For single quotes of bash and zsh. */
export const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Commands below another one, as keys of the walk along the words that were typed. */
export const commandKeys = (program: CommandShape): string[] =>
  flatten(program)
    .filter(({ path }) => path.length > 0)
    .map(({ path }) => path.map((word) => ` ${word}`).join(''));
