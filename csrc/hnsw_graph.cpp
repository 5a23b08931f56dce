#include "hnsw_graph.hpp"

#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "dot.hpp"

namespace vpr {
namespace {

/// hnswlib's view of our rows: an element's data is the address of its descriptor, so nothing is stored twice.
class CosineSpace final : public hnswlib::SpaceInterface<float> {
   public:
    explicit CosineSpace(std::size_t dim) : dim_(dim) {}
    std::size_t get_data_size() override { return sizeof(const float*); }
    hnswlib::DISTFUNC<float> get_dist_func() override { return &distance; }
    void* get_dist_func_param() override { return &dim_; }

   private:
    // Not 1 - dot: what a search finds are then the very similarities of an exact scan.
    static float distance(const void* a, const void* b, const void* dim) {
        const float* rows[2];
        std::memcpy(&rows[0], a, sizeof(rows[0]));  // hnswlib does not align what it stores
        std::memcpy(&rows[1], b, sizeof(rows[1]));
        return -dot(rows[0], rows[1], *static_cast<const std::size_t*>(dim));
    }

    std::size_t dim_;
};

/// Keeps removed rows out of an answer. hnswlib's own marks are not used: an insertion in reach of marked elements
/// only reads before the start of its empty list of neighbours (mutuallyConnectNewElement in 0.8.0).
class NotRemoved final : public hnswlib::BaseFilterFunctor {
   public:
    explicit NotRemoved(const Rows& rows) : rows_(rows) {}
    bool operator()(hnswlib::labeltype row) override { return rows_.removed[row] == 0; }

   private:
    const Rows& rows_;
};

}  // namespace

/// Element i of hnswlib is row i of ours.
struct HnswGraph::Hnswlib {
    Hnswlib(std::size_t dim, std::size_t capacity, std::size_t m, std::size_t ef_construction)
        : space(dim), index(&space, std::max<std::size_t>(capacity, 1), m, ef_construction) {
        index.setEf(1);  // it belongs to the index and not to the query; asking for ef neighbours is the same search
    }

    CosineSpace space;
    hnswlib::HierarchicalNSW<float> index;
};

HnswGraph::HnswGraph(std::size_t dim, std::size_t capacity, std::size_t m, std::size_t ef_construction)
    : hnswlib_(std::make_unique<Hnswlib>(dim, capacity, m, ef_construction)) {}

HnswGraph::~HnswGraph() = default;

void HnswGraph::insert(const Rows& rows, std::size_t row) {
    auto& hnsw = hnswlib_->index;
    if (row >= hnsw.getMaxElements()) hnsw.resizeIndex(row + row / 2 + Rows::kBlockRows);
    const float* descriptor = rows.at(row);
    hnsw.addPoint(&descriptor, row);
}

Nearest HnswGraph::search(const float* query, std::size_t k, std::size_t ef, const Rows& rows) const {
    NotRemoved not_removed(rows);
    auto found = hnswlib_->index.searchKnn(&query, std::max(k, ef), rows.removed_count > 0 ? &not_removed : nullptr);
    while (found.size() > k) found.pop();
    Nearest best(found.size());
    for (std::size_t i = best.size(); i-- > 0; found.pop()) best[i] = {-found.top().first, found.top().second};
    return best;
}

GraphImage HnswGraph::to_image() const {
    const auto& hnsw = hnswlib_->index;
    const std::size_t rows = hnsw.cur_element_count;
    GraphImage image;
    image.m = static_cast<std::uint32_t>(hnsw.M_);
    image.ef_construction = static_cast<std::uint32_t>(hnsw.ef_construction_);
    image.max_level = hnsw.maxlevel_;
    image.entry_row = hnsw.enterpoint_node_;
    image.levels.reserve(rows);
    image.level0_links.assign(rows * image.level0_stride(), 0);
    const auto copy_list = [](const hnswlib::linklistsizeint* list, std::size_t length, std::uint32_t* to) {
        to[0] = static_cast<std::uint32_t>(length);
        std::memcpy(to + 1, list + 1, length * sizeof(std::uint32_t));
    };
    for (hnswlib::tableint row = 0; row < rows; ++row) {
        image.levels.push_back(static_cast<std::uint8_t>(hnsw.element_levels_[row]));
        const auto* level0 = hnsw.get_linklist0(row);
        copy_list(level0, hnsw.getListCount(const_cast<hnswlib::linklistsizeint*>(level0)),
                  image.level0_links.data() + row * image.level0_stride());
        for (int level = 1; level <= hnsw.element_levels_[row]; ++level) {
            const std::size_t at = image.upper_links.size();
            image.upper_links.resize(at + image.upper_stride(), 0);
            const auto* list = hnsw.get_linklist(row, level);
            copy_list(list, hnsw.getListCount(const_cast<hnswlib::linklistsizeint*>(list)),
                      image.upper_links.data() + at);
        }
    }
    return image;
}

std::unique_ptr<HnswGraph> HnswGraph::from_image(const GraphImage& image, const Rows& rows) {
    auto graph =
        std::make_unique<HnswGraph>(rows.dim, std::max<std::size_t>(rows.size(), 1), image.m, image.ef_construction);
    auto& hnsw = graph->hnswlib_->index;
    std::memset(hnsw.data_level0_memory_, 0, rows.size() * hnsw.size_data_per_element_);
    const std::uint32_t* upper = image.upper_links.data();
    const auto copy_list = [&hnsw](const std::uint32_t* from, hnswlib::linklistsizeint* list) {
        hnsw.setListCount(list, static_cast<unsigned short>(from[0]));
        std::memcpy(list + 1, from + 1, from[0] * sizeof(std::uint32_t));
    };
    for (hnswlib::tableint row = 0; row < rows.size(); ++row) {
        const float* descriptor = rows.at(row);
        std::memcpy(hnsw.getDataByInternalId(row), &descriptor, sizeof(descriptor));
        hnsw.setExternalLabel(row, row);
        hnsw.label_lookup_[row] = row;
        copy_list(image.level0_links.data() + row * image.level0_stride(), hnsw.get_linklist0(row));
        const int levels = image.levels[row];
        if (levels > 0) {
            const std::size_t size = hnsw.size_links_per_element_ * static_cast<std::size_t>(levels) + 1;
            auto* lists = static_cast<char*>(std::calloc(size, 1));  // hnswlib frees it
            if (lists == nullptr) throw std::bad_alloc();
            hnsw.linkLists_[row] = lists;
        }
        // From here on hnswlib's destructor knows the row, and with it what it must free.
        hnsw.element_levels_[row] = levels;
        hnsw.cur_element_count = row + 1;
        for (int level = 1; level <= levels; ++level, upper += image.upper_stride()) {
            copy_list(upper, hnsw.get_linklist(row, level));
        }
    }
    hnsw.maxlevel_ = image.max_level;
    hnsw.enterpoint_node_ = image.entry_row;
    return graph;
}

}  // namespace vpr
