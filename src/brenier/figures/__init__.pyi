from brenier.figures.audit import plot_audit, plot_audited_levels
from brenier.figures.calibration import plot_calibration
from brenier.figures.chain import (
    plot_chain,
    plot_chain_bounds,
    plot_chain_contraction,
    plot_chain_distances,
    plot_chain_divergences,
    plot_chain_entropies,
    plot_chain_error,
    plot_chain_localization,
    plot_chain_rates,
)
from brenier.figures.comparison import plot_compared_errors, plot_comparison
from brenier.figures.coupling import plot_coupling, plot_detours, plot_pair_costs
from brenier.figures.difficulty import (
    plot_difficulty,
    plot_difficulty_against_error,
    plot_difficulty_ranks,
    plot_difficulty_ways,
    plot_hard_points,
)
from brenier.figures.evaluation import plot_closeness, plot_evaluation, plot_pairs, plot_shares
from brenier.figures.flow import plot_flow, plot_flow_density, plot_flow_image, plot_flow_map
from brenier.figures.history import plot_history
from brenier.figures.kinds import plot
from brenier.figures.overlay import plot_compared, plot_profiles
from brenier.figures.page import save_figure
from brenier.figures.profile import (
    plot_complexity,
    plot_contraction,
    plot_ess,
    plot_localization,
    plot_profile,
    plot_survival,
)
from brenier.figures.schedule import plot_schedule, plot_schedule_error, plot_schedule_steps
from brenier.figures.sinkhorn import plot_sinkhorn_limit
from brenier.figures.transport import (
    plot_cells,
    plot_image,
    plot_line_map,
    plot_line_potential,
    plot_masses,
    plot_points,
    plot_transport,
)

__all__ = [
    "plot",
    "plot_audit",
    "plot_audited_levels",
    "plot_calibration",
    "plot_cells",
    "plot_chain",
    "plot_chain_bounds",
    "plot_chain_contraction",
    "plot_chain_distances",
    "plot_chain_divergences",
    "plot_chain_entropies",
    "plot_chain_error",
    "plot_chain_localization",
    "plot_chain_rates",
    "plot_closeness",
    "plot_compared",
    "plot_compared_errors",
    "plot_comparison",
    "plot_complexity",
    "plot_contraction",
    "plot_coupling",
    "plot_detours",
    "plot_difficulty",
    "plot_difficulty_against_error",
    "plot_difficulty_ranks",
    "plot_difficulty_ways",
    "plot_ess",
    "plot_evaluation",
    "plot_flow",
    "plot_flow_density",
    "plot_flow_image",
    "plot_flow_map",
    "plot_hard_points",
    "plot_history",
    "plot_image",
    "plot_line_map",
    "plot_line_potential",
    "plot_localization",
    "plot_masses",
    "plot_pair_costs",
    "plot_pairs",
    "plot_points",
    "plot_profile",
    "plot_profiles",
    "plot_schedule",
    "plot_schedule_error",
    "plot_schedule_steps",
    "plot_shares",
    "plot_sinkhorn_limit",
    "plot_survival",
    "plot_transport",
    "save_figure",
]
