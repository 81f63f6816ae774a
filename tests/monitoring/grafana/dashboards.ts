// What a dashboard of ours must be. The test writes one file for each dashboard that gives it this type.
import type { Dashboard, Panel } from '@grafana/schema';
import type {
  Options as LineOptions,
  FieldConfig as LineStyle,
} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';

// JSON holds the values of the enums, not their names.
type Plain<T> = T extends string
  ? `${T}`
  : T extends (infer U)[]
    ? Plain<U>[]
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

type Query = {
  refId: string;
  datasource: { type: 'prometheus'; uid: '${datasource}' };
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
};

type Ours<Kind extends string, Options, Style> = Omit<
  Plain<Panel>,
  'type' | 'options' | 'fieldConfig' | 'targets' | 'title' | 'description' | 'links'
> & {
  type: Kind;
  title: `${string}?`;
  description: string;
  links: Plain<NonNullable<Panel['links']>>;
  targets: Query[];
  options: Plain<Options>;
  fieldConfig: {
    defaults: Omit<Plain<NonNullable<Panel['fieldConfig']>['defaults']>, 'custom' | 'unit'> & {
      unit: string;
      custom?: Plain<Style>;
    };
    overrides: [];
  };
};

export type Zegel = Omit<Plain<Dashboard>, 'panels'> & {
  panels: (Ours<'timeseries', LineOptions, LineStyle> | Ours<'stat', StatOptions, never>)[];
};

// And for Grafana itself it is a dashboard.
export type IsDashboard<T extends Plain<Dashboard>> = T;
