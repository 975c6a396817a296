/* Losses as layers: each runs the op of its name with the layer's arguments; class weights are
 * buffers. Relies on layer.h and the loss ops.
 * Spec: spec/nn/loss_spec.lua. */
#include "nn/layer.h"

#define REDUCTION PG_WORD("reduction", 1, "none|mean|sum")
#define LOSS(title, run, inputs, text, ...)                                                   \
  {                                                                                           \
    .name = title, .doc = text, .show = "", .param = {__VA_ARGS__}, .nin = inputs, .nout = 1, \
    .op = run                                                                                 \
  }
/* With a weight for each class, or element, among the constructor's arguments. */
#define WEIGHTED(title, run, text, ...)                                                          \
  {                                                                                              \
    .name = title, .doc = text, .lua = "perigee.nn.weighted_loss", .show = "",                   \
    .param = {__VA_ARGS__}, .slot = {{"weight", PG_SLOT_BUFFER}}, .nin = 2, .nout = 1, .op = run \
  }

const pg_layer_def pg_layers_loss[] = {
    WEIGHTED("CrossEntropyLoss", "cross_entropy",
             "-log softmax(input)[target] for scores [n x classes x ..] and labels 1..classes or "
             "class probabilities; first argument weight, one a class.",
             PG_DEF("ignore_index", PG_INT, -100), REDUCTION,
             PG_DEF("label_smoothing", PG_FLOAT, 0)),
    WEIGHTED("NLLLoss", "nll_loss",
             "-input[target] for log probabilities [n x classes x ..] and labels 1..classes; first "
             "argument weight, one a class.",
             PG_DEF("ignore_index", PG_INT, -100), REDUCTION),
    WEIGHTED("BCELoss", "binary_cross_entropy",
             "-y log(x) - (1 - y) log(1 - x) for probabilities x; first argument weight, which "
             "broadcasts to the elements.",
             REDUCTION),
    {.name = "BCEWithLogitsLoss",
     .doc = "BCELoss of sigmoid(x); first argument weight, which broadcasts to the elements; "
            "pos_weight, one a class, weighs y = 1.",
     .lua = "perigee.nn.weighted_loss",
     .show = "",
     .param = {REDUCTION},
     .slot = {{"weight", PG_SLOT_BUFFER}, {"pos_weight", PG_SLOT_BUFFER}},
     .nin = 2,
     .nout = 1,
     .op = "binary_cross_entropy_with_logits"},
    LOSS("MSELoss", "mse_loss", 2, "(x - y)^2.", REDUCTION),
    LOSS("L1Loss", "l1_loss", 2, "|x - y|.", REDUCTION),
    LOSS("SmoothL1Loss", "smooth_l1_loss", 2,
         "(x - y)^2 / (2 beta) where |x - y| < beta, else |x - y| - beta / 2.", REDUCTION,
         PG_DEF("beta", PG_FLOAT, 1)),
    LOSS("HuberLoss", "huber_loss", 2,
         "(x - y)^2 / 2 where |x - y| <= delta, else delta (|x - y| - delta / 2).", REDUCTION,
         PG_DEF("delta", PG_FLOAT, 1)),
    LOSS("KLDivLoss", "kl_div", 2, "y (log y - x) for log probabilities x.",
         PG_WORD("reduction", 1, "none|mean|sum|batchmean"), PG_DEF("log_target", PG_FLAG, 0)),
    LOSS("PoissonNLLLoss", "poisson_nll_loss", 2,
         "exp(x) - y x: the likelihood of counts y whose rate is exp(x), or x.",
         PG_DEF("log_input", PG_FLAG, 1), PG_DEF("full", PG_FLAG, 0), PG_DEF("eps", PG_FLOAT, 1e-8),
         REDUCTION),
    LOSS("GaussianNLLLoss", "gaussian_nll_loss", 3,
         "1/2 (log var + (x - y)^2 / var), inputs x, y, var.", PG_DEF("full", PG_FLAG, 0),
         PG_DEF("eps", PG_FLOAT, 1e-6), REDUCTION),
    LOSS("CosineEmbeddingLoss", "cosine_embedding_loss", 3,
         "1 - cos(x1, x2) where y is 1, max(0, cos - margin) where it is -1; inputs x1, x2, y.",
         PG_DEF("margin", PG_FLOAT, 0), REDUCTION),
    LOSS("HingeEmbeddingLoss", "hinge_embedding_loss", 2,
         "x where y is 1, max(0, margin - x) where it is -1.", PG_DEF("margin", PG_FLOAT, 1),
         REDUCTION),
    LOSS("MarginRankingLoss", "margin_ranking_loss", 3,
         "max(0, -y (x1 - x2) + margin), inputs x1, x2, y.", PG_DEF("margin", PG_FLOAT, 0),
         REDUCTION),
    {.name = "MultiMarginLoss",
     .doc = "sum over j ~= y of weight[y] max(0, margin - x[y] + x[j])^p / classes; arguments p, "
            "margin, weight, one a class.",
     .lua = "perigee.nn.weighted_loss",
     .show = "",
     .param = {PG_DEF("p", PG_INT, 1), PG_DEF("margin", PG_FLOAT, 1), REDUCTION},
     .slot = {{"weight", PG_SLOT_BUFFER}},
     .nin = 2,
     .nout = 1,
     .op = "multi_margin_loss"},
    LOSS("MultiLabelMarginLoss", "multilabel_margin_loss", 2,
         "sum over listed y and unlisted j of max(0, 1 - x[y] + x[j]) / classes; rows of the "
         "target list labels up to the first 0.",
         REDUCTION),
    WEIGHTED("MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss",
             "mean over the classes of -(y log sigmoid(x) + (1 - y) log sigmoid(-x)); first "
             "argument weight, one a class.",
             REDUCTION),
    LOSS("SoftMarginLoss", "soft_margin_loss", 2, "log(1 + exp(-y x)) for y 1 or -1.", REDUCTION),
    LOSS("TripletMarginLoss", "triplet_margin_loss", 3,
         "max(0, |anchor - positive|_p - |anchor - negative|_p + margin), inputs anchor, positive, "
         "negative.",
         PG_DEF("margin", PG_FLOAT, 1), PG_DEF("p", PG_FLOAT, 2), PG_DEF("eps", PG_FLOAT, 1e-6),
         PG_DEF("swap", PG_FLAG, 0), REDUCTION),
    {.name = "CTCLoss",
     .doc = "-log of the probability of all alignments of the targets, labels 1..classes without "
            "blank, with log_probs [steps x n x classes]; inputs log_probs, targets, "
            "input_lengths, target_lengths.",
     .lua = "perigee.nn.ctc_loss",
     .show = "",
     .param = {PG_DEF("blank", PG_INT, 1), REDUCTION, PG_DEF("zero_infinity", PG_FLAG, 0)},
     .nin = 4,
     .nout = 1,
     .op = "ctc_loss"},
    LOSS("CosineSimilarity", "cosine_similarity", 2,
         "x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim.", PG_DEF("dim", PG_DIM, 2),
         PG_DEF("eps", PG_FLOAT, 1e-8)),
    LOSS("PairwiseDistance", "pairwise_distance", 2,
         "The p-norm of x1 - x2 + eps along the last dim.", PG_DEF("p", PG_FLOAT, 2),
         PG_DEF("eps", PG_FLOAT, 1e-6), PG_DEF("keepdim", PG_FLAG, 0)),
    {0}};
