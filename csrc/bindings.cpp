// The Python module, and the only file that includes pybind11. It checks shapes and dtypes; the kernel checks values.

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "file/format.hpp"
#include "index/cursor.hpp"
#include "index/place_index.hpp"
#include "kernels/kernels.hpp"
#include "rows/normalize.hpp"

namespace py = pybind11;

namespace {

using FloatRows = py::array_t<float, py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_>;

std::string shape_text(const py::array& array) { return py::str(array.attr("shape")); }

/// float32 (n, dim), or (dim) as one row. Not copied if C-contiguous and aligned.
struct RowsView {
    FloatRows array;
    std::size_t count;
    std::size_t dim;
    bool single;

    RowsView(const py::object& object, const char* what, std::size_t expected_dim = 0) {
        if (!py::isinstance<py::array>(object)) {
            throw py::type_error(std::string(what) + " is a " +
                                 std::string(py::str(py::type::of(object).attr("__name__"))) +
                                 ", expected a numpy array of float32");
        }
        const auto any = py::reinterpret_borrow<py::array>(object);
        if (!py::isinstance<py::array_t<float>>(any)) {  // after unpickling, an equal dtype is another object
            throw py::type_error(std::string(what) + " has dtype " + std::string(py::str(any.dtype())) +
                                 ", expected float32; convert with .astype(numpy.float32)");
        }
        const std::string wanted = expected_dim == 0 ? "D" : std::to_string(expected_dim);
        const auto columns = any.ndim() == 0 ? 0 : static_cast<std::size_t>(any.shape(any.ndim() - 1));
        if (any.ndim() < 1 || any.ndim() > 2 || columns == 0 || (expected_dim != 0 && columns != expected_dim)) {
            throw py::value_error(std::string(what) + " has shape " + shape_text(any) + ", expected (n, " + wanted +
                                  ") or (" + wanted + ",)");
        }
        constexpr int kReadable = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
        // Skip a needless conversion: it would take a third of a short search.
        array = (any.flags() & kReadable) == kReadable ? py::reinterpret_borrow<FloatRows>(any) : FloatRows(any);
        single = any.ndim() == 1;
        count = single ? 1 : static_cast<std::size_t>(any.shape(0));
        dim = columns;
    }

    std::vector<py::ssize_t> shape(std::size_t columns) const {
        const auto width = static_cast<py::ssize_t>(columns);
        if (single) return {width};
        return {static_cast<py::ssize_t>(count), width};
    }
};

FloatRows l2_normalize(const py::object& rows) {
    const RowsView view(rows, "rows");
    FloatRows result(view.shape(view.dim));
    const float* from = view.array.data();
    float* to = result.mutable_data();
    {
        const py::gil_scoped_release release;
        vpr::l2_normalize(from, view.count, view.dim, to);
    }
    return result;
}

using Ids =
    py::array_t<std::int64_t, py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_ | py::array::forcecast>;

Ids to_ids(const py::object& object, std::size_t expected) {
    const py::array any(object);
    const bool empty = any.size() == 0;  // numpy makes an empty list float64
    if (!empty && any.dtype().kind() != 'i' && any.dtype().kind() != 'u') {
        throw py::type_error("ids have dtype " + std::string(py::str(any.dtype())) + ", expected int64");
    }
    if (any.ndim() != 1 || (expected != SIZE_MAX && static_cast<std::size_t>(any.size()) != expected)) {
        const std::string wanted = expected == SIZE_MAX ? "n" : std::to_string(expected);
        throw py::value_error("ids have shape " + shape_text(any) + ", expected (" + wanted + ",)");
    }
    Ids ids(any);
    if (any.dtype().kind() == 'u') {  // 2^63 and above have become negative
        for (py::ssize_t i = 0; i < ids.size(); ++i) {
            if (ids.data()[i] < 0) {
                throw py::value_error("place id " + std::to_string(static_cast<std::uint64_t>(ids.data()[i])) +
                                      " is too large, expected below 2^63");
            }
        }
    }
    return ids;
}

vpr::Fingerprint to_fingerprint(const py::bytes& bytes, const char* what) {
    const auto text = static_cast<std::string>(bytes);
    vpr::Fingerprint fingerprint{};
    if (text.size() != fingerprint.size()) {
        throw py::value_error(std::string(what) + " has " + std::to_string(text.size()) + " bytes, expected " +
                              std::to_string(fingerprint.size()));
    }
    std::memcpy(fingerprint.data(), text.data(), text.size());
    return fingerprint;
}

std::size_t at_least_one(py::ssize_t value, const char* what) {
    if (value < 1) throw py::value_error(std::string(what) + " is " + std::to_string(value) + ", expected 1 or more");
    return static_cast<std::size_t>(value);
}

constexpr const char* kMethods[] = {"", "scan", "sketch", "graph"};    // by vpr::Method
constexpr const char* kPrecisions[] = {"float16", "float32", "int8"};  // by vpr::Precision

template <std::size_t N>
std::size_t position_of(const std::string& name, const char* const (&names)[N], const char* what) {
    std::string expected;
    for (std::size_t i = 0; i < N; ++i) {
        if (name == names[i]) return i;
        expected += std::string(i == 0 ? "'" : ", '") + names[i] + "'";
    }
    throw py::value_error(std::string(what) + " is '" + name + "', expected one of " + expected);
}

vpr::SearchOptions to_options(py::ssize_t k, bool exact, py::ssize_t ef, const std::string& method) {
    vpr::SearchOptions options;
    options.k = at_least_one(k, "k");
    options.ef = at_least_one(ef, "ef");
    options.method = static_cast<vpr::Method>(position_of(method, kMethods, "method"));
    if (!exact) return options;
    if (options.method != vpr::Method::choose && options.method != vpr::Method::scan) {
        throw py::value_error("method is '" + method + "' and exact is True, but only 'scan' is exact");
    }
    options.method = vpr::Method::scan;
    return options;
}

py::tuple to_arrays(const vpr::SearchResult& found, const RowsView& queries) {
    Ids ids(queries.shape(found.k));
    FloatRows similarities(queries.shape(found.k));
    std::copy(found.ids.begin(), found.ids.end(), ids.mutable_data());
    std::copy(found.similarities.begin(), found.similarities.end(), similarities.mutable_data());
    return py::make_tuple(ids, similarities);
}

vpr::SearchResult search(const vpr::PlaceIndex& index, const RowsView& queries, const vpr::SearchOptions& options) {
    const float* const from = queries.array.data();
    const py::gil_scoped_release release;
    return index.search(from, queries.count, options);
}

void require_one(const RowsView& query) {
    if (query.count != 1) {
        throw py::value_error("query has " + std::to_string(query.count) + " rows, expected one");
    }
}

py::dict to_dict(const vpr::SearchResult& found) {
    py::dict result;
    result["method"] = kMethods[static_cast<std::size_t>(found.effort.method)];
    result["compared"] = found.effort.compared;
    result["scored"] = found.effort.scored;
    return result;
}

constexpr std::pair<const char*, double vpr::Costs::*> kCosts[] = {{"scan_byte", &vpr::Costs::scan_byte},
                                                                   {"sketch_byte", &vpr::Costs::sketch_byte},
                                                                   {"gather_line", &vpr::Costs::gather_line}};

vpr::Costs to_costs(const py::object& from) {
    vpr::Costs costs;
    for (const auto& [name, member] : kCosts) {
        double value = 0;
        try {
            value = py::cast<double>(from[name]);
        } catch (const py::cast_error&) {
            throw py::type_error("costs['" + std::string(name) + "'] is not a number, expected nanoseconds");
        }
        if (!(value > 0 && value < 1e9)) {
            throw py::value_error("costs['" + std::string(name) + "'] is " + std::to_string(value) +
                                  ", expected nanoseconds above 0; measure them again");
        }
        costs.*member = value;
    }
    return costs;
}

void build_graph(vpr::PlaceIndex& index, py::ssize_t m, py::ssize_t ef_construction, const py::object& progress) {
    const std::size_t links = at_least_one(m, "m");
    const std::size_t candidates = at_least_one(ef_construction, "ef_construction");
    const bool reports = !progress.is_none();
    std::size_t next = 0;
    const vpr::Progress report = [&](std::size_t done, std::size_t total) {
        if (done < next && done < total) return true;
        next = done + 256;
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();  // Ctrl-C ends a long build
        if (reports) progress(done, total);
        return true;
    };
    const py::gil_scoped_release release;
    index.build_graph(links, candidates, report);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    // For calls that may wait for another thread, if only for its lock.
    constexpr py::call_guard<py::gil_scoped_release> kWithoutGil;
    module.doc() = "The C++ kernel: descriptor normalisation and search. Signatures are in _core.pyi.";
    module.attr("INDEX_FILE_VERSION") = vpr::kIndexFileVersion;
    py::register_exception<vpr::IndexFileError>(module, "IndexFileError", PyExc_RuntimeError);

    module.def("l2_normalize", &l2_normalize, py::arg("rows"));

    module.def("instruction_sets", [] {
        py::list names;
        for (const vpr::Kernels* set : vpr::available_kernels()) names.append(set->name);
        return names;
    });

    module.def("measure_costs", [] {
        vpr::Costs costs;
        {
            const py::gil_scoped_release release;
            costs = vpr::Costs::measure(vpr::best_kernels());
        }
        py::dict result;
        for (const auto& [name, member] : kCosts) result[name] = costs.*member;
        return result;
    });

    py::class_<vpr::PlaceIndex>(module, "PlaceIndex")
        .def(py::init([](py::ssize_t dim, const std::string& precision, const std::string& instruction_set) {
                 return std::make_unique<vpr::PlaceIndex>(
                     at_least_one(dim, "dim"),
                     static_cast<vpr::Precision>(position_of(precision, kPrecisions, "precision")),
                     vpr::kernels_named(instruction_set));
             }),
             py::arg("dim"), py::kw_only(), py::arg("precision") = "float16", py::arg("instruction_set") = "")
        .def("__len__", &vpr::PlaceIndex::size, kWithoutGil)
        .def_property_readonly(
            "precision",
            [](const vpr::PlaceIndex& index) { return kPrecisions[static_cast<std::size_t>(index.precision())]; })
        .def_property_readonly("instruction_set", [](const vpr::PlaceIndex& index) { return index.kernels().name; })
        .def_property_readonly("dim", &vpr::PlaceIndex::dim)
        .def_property_readonly("removed", py::cpp_function(&vpr::PlaceIndex::removed, kWithoutGil))
        .def_property_readonly("last_id", py::cpp_function(&vpr::PlaceIndex::last_id, kWithoutGil))
        .def_property_readonly("has_graph", py::cpp_function(&vpr::PlaceIndex::has_graph, kWithoutGil))
        .def(
            "add",
            [](vpr::PlaceIndex& index, const py::object& ids, const py::object& descriptors) {
                const RowsView view(descriptors, "descriptors", index.dim());
                const Ids id_array = to_ids(ids, view.count);
                const py::gil_scoped_release release;
                index.add(id_array.data(), view.array.data(), view.count);
            },
            py::arg("ids"), py::arg("descriptors"))
        .def(
            "remove",
            [](vpr::PlaceIndex& index, const py::object& ids) {
                const Ids id_array = to_ids(ids, SIZE_MAX);
                const py::gil_scoped_release release;
                index.remove(id_array.data(), static_cast<std::size_t>(id_array.size()));
            },
            py::arg("ids"))
        .def("build_graph", &build_graph, py::arg("m") = 16, py::arg("ef_construction") = 200,
             py::arg("progress") = py::none())
        .def(
            "search",
            [](const vpr::PlaceIndex& index, const py::object& queries, py::ssize_t k, bool exact, py::ssize_t ef,
               const std::string& method) {
                const RowsView view(queries, "queries", index.dim());
                return to_arrays(search(index, view, to_options(k, exact, ef, method)), view);
            },
            py::arg("queries"), py::arg("k"), py::kw_only(), py::arg("exact") = false, py::arg("ef") = 64,
            py::arg("method") = "")
        .def(
            "explain",
            [](const vpr::PlaceIndex& index, const py::object& query, py::ssize_t k, bool exact, py::ssize_t ef,
               const std::string& method) {
                const RowsView view(query, "query", index.dim());
                require_one(view);
                return to_dict(search(index, view, to_options(k, exact, ef, method)));
            },
            py::arg("query"), py::arg("k"), py::kw_only(), py::arg("exact") = false, py::arg("ef") = 64,
            py::arg("method") = "")
        .def(
            "cursor", [](const vpr::PlaceIndex& index) { return std::make_unique<vpr::Cursor>(index); },
            py::keep_alive<0, 1>())
        .def(
            "set_costs",
            [](vpr::PlaceIndex& index, const py::object& costs) {
                const vpr::Costs measured = to_costs(costs);
                const py::gil_scoped_release release;
                index.set_costs(measured);
            },
            py::arg("costs"))
        .def("verify", &vpr::PlaceIndex::verify, kWithoutGil)
        .def(
            "save",
            [](const vpr::PlaceIndex& index, const std::string& path, const py::bytes& contract,
               const py::bytes& state) {
                const vpr::Fingerprint contract_id = to_fingerprint(contract, "contract");
                const vpr::Fingerprint state_id = to_fingerprint(state, "state");
                const py::gil_scoped_release release;
                index.save(path, contract_id, state_id);
            },
            py::arg("path"), py::kw_only(), py::arg("contract"), py::arg("state"))
        .def_static(
            "load",
            [](const std::string& path, py::ssize_t dim, const py::bytes& contract,
               const std::string& instruction_set) {
                const std::size_t expected_dim = at_least_one(dim, "dim");
                const vpr::Fingerprint contract_id = to_fingerprint(contract, "contract");
                const vpr::Kernels& kernels = vpr::kernels_named(instruction_set);
                vpr::Fingerprint state{};
                std::unique_ptr<vpr::PlaceIndex> index;
                {
                    const py::gil_scoped_release release;
                    index = vpr::PlaceIndex::load(path, expected_dim, contract_id, kernels, &state);
                }
                return py::make_tuple(std::move(index),
                                      py::bytes(reinterpret_cast<const char*>(state.data()), state.size()));
            },
            py::arg("path"), py::kw_only(), py::arg("dim"), py::arg("contract"), py::arg("instruction_set") = "");

    py::class_<vpr::Cursor>(module, "Cursor")
        .def(
            "search",
            [](vpr::Cursor& cursor, const py::object& query, py::ssize_t k, bool exact, py::ssize_t ef,
               const std::string& method) {
                const RowsView view(query, "query", cursor.index().dim());
                require_one(view);
                const vpr::SearchOptions options = to_options(k, exact, ef, method);
                const float* const from = view.array.data();
                vpr::SearchResult found;
                {
                    const py::gil_scoped_release release;
                    found = cursor.search(from, options);
                }
                return to_arrays(found, view);
            },
            py::arg("query"), py::arg("k"), py::kw_only(), py::arg("exact") = false, py::arg("ef") = 64,
            py::arg("method") = "")
        .def("reset", &vpr::Cursor::reset, kWithoutGil)
        .def_property_readonly("followed", py::cpp_function(&vpr::Cursor::followed, kWithoutGil));
}
