#include "graph/builder.hpp"

#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "graph/walk.hpp"
#include "memory/aligned.hpp"

namespace vpr {
namespace {

/// hnswlib's view of our rows. It stores only their numbers.
///
/// The distance of two rows is half the squared distance of their codes. The product of codes alone would not do: codes
/// lack the middle and so differ in length, and rows far from the middle would seem near to all others. Distances are
/// integers, so a graph is the same on every machine.
class CodeSpace final : public hnswlib::SpaceInterface<std::int32_t> {
   public:
    CodeSpace(const Rows& rows, const Kernels& kernels) : parameters_{&rows, &kernels, nullptr} {}
    std::size_t get_data_size() override { return sizeof(std::uint32_t); }
    hnswlib::DISTFUNC<std::int32_t> get_dist_func() override { return &distance; }
    void* get_dist_func_param() override { return &parameters_; }

    void use_norms(const std::vector<std::int32_t>& norms) noexcept { parameters_.norms = &norms; }

   private:
    struct Parameters {
        const Rows* rows;
        const Kernels* kernels;
        const std::vector<std::int32_t>* norms;
    };

    static std::int32_t distance(const void* a, const void* b, const void* parameters) {
        const auto& [rows, kernels, norms] = *static_cast<const Parameters*>(parameters);
        const std::uint32_t of_a = *static_cast<const std::uint32_t*>(a);
        const std::uint32_t of_b = *static_cast<const std::uint32_t*>(b);
        const std::int32_t product = kernels->code_product(rows->high.at(of_a), rows->low.at(of_a), rows->high.at(of_b),
                                                           rows->low.at(of_b), rows->layout.plane_bytes());
        return (*norms)[of_a] / 2 + (*norms)[of_b] / 2 - product;
    }

    Parameters parameters_;
};

/// The highest level of a row, computed from its number: level l with probability m^-l, the same for every builder.
std::size_t level_of(std::size_t row, std::size_t m) {
    std::size_t level = 0;
    for (std::uint64_t state = row + 1;; ++level) {
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9;  // SplitMix64, see rows/encoder.cpp
        state = (state ^ state >> 27) * 0x94D049BB133111EB;
        state ^= state >> 31;
        if (state % m != 0 || level == Graph::kMostLevels) return level;
        state += 0x9E3779B97F4A7C15;
    }
}

}  // namespace

/// Element i of hnswlib is row i of ours.
struct GraphBuilder::Hnswlib {
    using Index = hnswlib::HierarchicalNSW<std::int32_t>;
    using Candidates =
        std::priority_queue<std::pair<std::int32_t, hnswlib::tableint>,
                            std::vector<std::pair<std::int32_t, hnswlib::tableint>>, Index::CompareByFirst>;

    Hnswlib(const Rows& rows, const Kernels& kernels, std::size_t m, std::size_t ef_construction)
        : rows_of(rows),
          kernels_of(kernels),
          space(rows, kernels),
          index(&space, std::max<std::size_t>(rows.count, 1), m, ef_construction) {
        space.use_norms(norms);
    }

    /// The product of a row's code with itself.
    std::int32_t norm(std::size_t row) const {
        const std::uint8_t* const high = rows_of.high.at(row);
        const std::uint8_t* const low = rows_of.low.at(row);
        return kernels_of.code_product(high, low, high, low, rows_of.layout.plane_bytes());
    }

    std::size_t levels(std::size_t row) const { return static_cast<std::size_t>(index.element_levels_[row]); }

    Neighbours neighbours(std::size_t row, std::size_t level) const {
        const auto node = static_cast<hnswlib::tableint>(row);
        auto* list = level == 0 ? index.get_linklist0(node) : index.get_linklist(node, static_cast<int>(level));
        return {list + 1, index.getListCount(list)};
    }

    /// Add the element of a row, without links.
    void add_element(std::size_t row, std::size_t levels) {
        if (row >= index.max_elements_) index.resizeIndex(row + row / 4 + 1024);
        const auto node = static_cast<hnswlib::tableint>(row);
        std::memset(index.data_level0_memory_ + row * index.size_data_per_element_, 0, index.size_data_per_element_);
        std::memcpy(index.getDataByInternalId(node), &node, sizeof(node));
        index.linkLists_[row] = nullptr;
        if (levels > 0) {
            const std::size_t bytes = index.size_links_per_element_ * levels + 1;
            index.linkLists_[row] = static_cast<char*>(std::calloc(bytes, 1));  // hnswlib frees it
            if (index.linkLists_[row] == nullptr) throw std::bad_alloc();
        }
        index.element_levels_[row] = static_cast<int>(levels);
        index.cur_element_count = row + 1;
    }

    void set_links(std::size_t row, std::size_t level, const std::uint32_t* links, std::size_t count) {
        const auto node = static_cast<hnswlib::tableint>(row);
        auto* list = level == 0 ? index.get_linklist0(node) : index.get_linklist(node, static_cast<int>(level));
        index.setListCount(list, static_cast<unsigned short>(count));
        std::memcpy(list + 1, links, count * sizeof(*links));
    }

    /// Copy the links of a row on level 1 or above, as numbers of upper nodes.
    void copy_upper_links(std::uint32_t row, std::size_t level, Graph& graph) const {
        const Neighbours from = neighbours(row, level);
        std::uint32_t* const to = graph.upper_links_of(upper_of_row.at(row), level);
        std::fill(to, to + graph.m, Graph::kNone);
        for (std::size_t i = 0; i < from.count; ++i) to[i] = upper_of_row.at(from.first[i]);
    }

    /// The node where a descent starts. The graph must not be empty.
    std::uint32_t entry() const {
        return upper_of_row.empty() ? index.enterpoint_node_ : upper_of_row.at(index.enterpoint_node_);
    }

    const Rows& rows_of;
    const Kernels& kernels_of;
    std::vector<std::int32_t> norms;  // of inserted rows, and of the row being inserted
    CodeSpace space;
    Index index;
    std::unordered_map<std::uint32_t, std::uint32_t> upper_of_row;  // number among upper nodes, which are in row order
    std::uint32_t twin_of_last = Graph::kNone;
    std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> twins;
};

GraphBuilder::GraphBuilder(const Rows& rows, const Kernels& kernels, std::size_t m, std::size_t ef_construction)
    : rows_(rows), kernels_(kernels), hnswlib_(std::make_unique<Hnswlib>(rows, kernels, m, ef_construction)) {}

GraphBuilder::GraphBuilder(const Rows& rows, const Kernels& kernels, const Graph& graph)
    : GraphBuilder(rows, kernels, graph.m, graph.ef_construction) {
    const auto length = [](const std::uint32_t* links, std::size_t most) {
        return static_cast<std::size_t>(std::find(links, links + most, Graph::kNone) - links);
    };
    std::vector<std::uint32_t> levels(graph.rows, 0);
    for (std::uint32_t node = 0; node < graph.upper.size(); ++node) {
        levels[graph.upper[node].row] = graph.upper[node].levels;
        hnswlib_->upper_of_row[graph.upper[node].row] = node;
    }
    for (std::size_t row = 0; row < graph.rows; ++row) {
        hnswlib_->add_element(row, levels[row]);
        hnswlib_->set_links(row, 0, graph.links_of(row), length(graph.links_of(row), 2 * graph.m));
    }
    std::vector<std::uint32_t> links(graph.m);
    for (std::uint32_t node = 0; node < graph.upper.size(); ++node) {
        for (std::size_t level = 1; level <= graph.upper[node].levels; ++level) {
            const std::uint32_t* list = graph.upper_links_of(node, level);
            const std::size_t count = length(list, graph.m);
            for (std::size_t i = 0; i < count; ++i) links[i] = graph.upper[list[i]].row;
            hnswlib_->set_links(graph.upper[node].row, level, links.data(), count);
        }
    }
    if (graph.entry != Graph::kNone) {
        const std::uint32_t row = graph.upper.empty() ? graph.entry : graph.upper[graph.entry].row;
        hnswlib_->index.enterpoint_node_ = row;
        hnswlib_->index.maxlevel_ = static_cast<int>(levels[row]);
    }
    hnswlib_->twins = graph.twins;
    hnswlib_->norms.resize(graph.rows);
    recode();
}

GraphBuilder::~GraphBuilder() = default;

void GraphBuilder::recode() {
    for (std::size_t row = 0; row < hnswlib_->norms.size(); ++row) hnswlib_->norms[row] = hnswlib_->norm(row);
}

std::size_t GraphBuilder::size() const noexcept { return hnswlib_->index.cur_element_count; }

void GraphBuilder::insert_next() {
    auto& hnsw = hnswlib_->index;
    const std::size_t row = size();
    const std::size_t plane_bytes = rows_.layout.plane_bytes();
    const std::size_t top = level_of(row, hnsw.M_);
    hnswlib_->twin_of_last = Graph::kNone;
    auto& norms = hnswlib_->norms;
    norms.push_back(hnswlib_->norm(row));
    if (hnsw.maxlevel_ < 0) {
        hnswlib_->add_element(row, top);
        hnsw.enterpoint_node_ = static_cast<hnswlib::tableint>(row);
        hnsw.maxlevel_ = static_cast<int>(top);
        if (top > 0) hnswlib_->upper_of_row.emplace(row, hnswlib_->upper_of_row.size());
        return;
    }

    AlignedVector<std::int8_t> code(2 * plane_bytes);
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < code.size(); ++i) {
        const std::size_t byte = i / 128 * 64 + i % 64;
        const unsigned shift = i % 128 < 64 ? 0 : 4;
        const unsigned high = rows_.high.at(row)[byte] >> shift & 15U;
        const unsigned low = rows_.low.at(row)[byte] >> shift & 15U;
        code[i] = static_cast<std::int8_t>(static_cast<int>(16 * high + low) - 128);
        sum += code[i];
    }
    Comparer comparer(rows_, kernels_, nullptr, code.data(), norms.data());

    std::uint32_t nearest = hnsw.enterpoint_node_;
    std::int32_t product = 0;
    comparer.compare(&nearest, 1, &product);
    const auto highest = static_cast<std::size_t>(hnsw.maxlevel_);
    for (std::size_t level = highest; level > top; --level) {
        const auto neighbours_of = [this, level](std::uint32_t of) { return hnswlib_->neighbours(of, level); };
        descend_level(neighbours_of, [](std::uint32_t node) { return node; }, comparer, nearest, product);
    }
    std::vector<Pool> pools;  // of each level, from the highest down
    const std::size_t linked_levels = std::min(top, highest) + 1;
    for (std::size_t level = linked_levels; level-- > 0;) {
        Pool pool(hnsw.ef_construction_);
        Visited visited(4 * hnsw.ef_construction_);
        visited.insert(nearest);
        pool.offer(product, nearest);
        const auto neighbours_of = [this, level](std::uint32_t of) { return hnswlib_->neighbours(of, level); };
        walk_level(neighbours_of, comparer, pool, visited);
        nearest = pool.row(0);
        product = pool.product(0);
        pools.push_back(std::move(pool));
    }

    std::int32_t own = 0;
    const auto own_row = static_cast<std::uint32_t>(row);
    comparer.compare(&own_row, 1, &own);
    const Pool& level0 = pools.back();
    for (std::size_t i = 0; i < level0.size() && level0.product(i) >= own; ++i) {
        const std::uint32_t other = level0.row(i);
        if (std::memcmp(rows_.high.at(row), rows_.high.at(other), plane_bytes) == 0 &&
            std::memcmp(rows_.low.at(row), rows_.low.at(other), plane_bytes) == 0) {
            hnswlib_->add_element(row, 0);
            hnswlib_->twin_of_last = other;
            hnswlib_->twins[other].push_back(own_row);
            return;
        }
    }

    hnswlib_->add_element(row, top);
    if (top > 0) hnswlib_->upper_of_row.emplace(own_row, hnswlib_->upper_of_row.size());
    std::vector<const std::uint8_t*> planes(hnsw.ef_construction_);
    std::vector<std::int32_t> products(hnsw.ef_construction_);
    for (std::size_t i = 0; i < pools.size(); ++i) {
        const Pool& pool = pools[i];
        for (std::size_t j = 0; j < pool.size(); ++j) planes[j] = rows_.low.at(pool.row(j));
        kernels_.plane_products(code.data(), planes.data(), pool.size(), plane_bytes, products.data());
        Hnswlib::Candidates candidates;
        for (std::size_t j = 0; j < pool.size(); ++j) {
            const std::int32_t upper = pool.product(j) + Comparer::half_norm(norms[pool.row(j)]);
            const std::int32_t whole = 16 * upper + products[j] - 128 * sum;
            candidates.emplace(norms[row] / 2 + norms[pool.row(j)] / 2 - whole, pool.row(j));
        }
        hnsw.mutuallyConnectNewElement(hnsw.getDataByInternalId(own_row), own_row, candidates,
                                       static_cast<int>(linked_levels - 1 - i), false);
    }
    if (top > highest) {
        hnsw.enterpoint_node_ = own_row;
        hnsw.maxlevel_ = static_cast<int>(top);
    }
}

namespace {

void copy_links(const Neighbours& from, std::uint32_t* to, std::size_t room) {
    std::copy_n(from.first, from.count, to);
    std::fill(to + from.count, to + room, Graph::kNone);
}

}  // namespace

std::unique_ptr<Graph> GraphBuilder::to_graph() const {
    const auto& hnsw = hnswlib_->index;
    auto graph = std::make_unique<Graph>(hnsw.M_, hnsw.ef_construction_);
    graph->rows = size();
    graph->links.grow(graph->links.growth_for(0, graph->rows));
    graph->upper.resize(hnswlib_->upper_of_row.size());
    for (const auto& [row, node] : hnswlib_->upper_of_row) graph->upper[node].row = row;
    std::uint32_t lists = 0;
    for (Graph::UpperNode& node : graph->upper) {
        node.levels = static_cast<std::uint32_t>(hnswlib_->levels(node.row));
        node.first_list = lists;
        lists += node.levels;
    }
    graph->upper_links.assign(std::size_t{lists} * graph->m, Graph::kNone);
    for (std::size_t row = 0; row < graph->rows; ++row) {
        copy_links(hnswlib_->neighbours(row, 0), graph->links_of(row), graph->link_words());
    }
    graph->links.settle(0, graph->rows);
    for (const Graph::UpperNode& node : graph->upper) {
        for (std::size_t level = 1; level <= node.levels; ++level) {
            hnswlib_->copy_upper_links(node.row, level, *graph);
        }
    }
    graph->twins = hnswlib_->twins;
    if (graph->rows > 0) graph->entry = hnswlib_->entry();
    return graph;
}

void GraphBuilder::publish_last(Graph& graph) const {
    const auto row = static_cast<std::uint32_t>(size() - 1);
    graph.rows = size();
    const auto copy_level0 = [&](std::uint32_t of) {
        copy_links(hnswlib_->neighbours(of, 0), graph.links_of(of), graph.link_words());
    };
    copy_level0(row);
    if (hnswlib_->twin_of_last != Graph::kNone) {
        graph.twins[hnswlib_->twin_of_last].push_back(row);
        return;
    }
    const Neighbours neighbours = hnswlib_->neighbours(row, 0);
    std::for_each_n(neighbours.first, neighbours.count, copy_level0);
    const std::size_t levels = hnswlib_->levels(row);
    if (levels > 0) {
        graph.upper.push_back(
            {row, static_cast<std::uint32_t>(levels), static_cast<std::uint32_t>(graph.upper_links.size() / graph.m)});
        graph.upper_links.resize(graph.upper_links.size() + levels * graph.m, Graph::kNone);
    }
    for (std::size_t level = 1; level <= levels; ++level) {
        const auto copy_upper = [&](std::uint32_t of) { hnswlib_->copy_upper_links(of, level, graph); };
        copy_upper(row);
        const Neighbours upper = hnswlib_->neighbours(row, level);
        std::for_each_n(upper.first, upper.count, copy_upper);
    }
    graph.entry = hnswlib_->entry();
}

}  // namespace vpr
